"""What a test-time view costs against a plain pass over the same images, both from the shards, in one run.

Every image is a stored JPEG (short side 256 px), the network MobileNet without weights at 160 px. Plain is one pass of
whole images; the others show each image in several views. Turns are taken one after the other in each round, so that
other work on the machine meets all of them, and the best of each counts.

    python benchmarks/views.py [--n 512] [--rounds 3] [--size 160] [--batch 64]

About two minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from input_pipeline import stored, write_shards

from labelstack.images.loader import shown_batches
from labelstack.images.pixels.tta import Looks
from labelstack.params.models import HeadSection, ModelSection
from labelstack.params.prediction_views import ViewSection, single_views

VIEWS = {
    "near": ViewSection(random_crop=(0.6, 1), n=4),
    "scaled": ViewSection(crop="nine", scale=1.0714, flip="both"),
    "one": ViewSection(crop="center"),
}
LISTS = {
    "plain: identity": ["identity"],
    "identity, hflip": ["identity", "hflip"],
    "a centre crop": ["one"],
    "four random crops": ["near"],
    "ten_crops": ["ten_crops"],
    "nine crops × flip": ["scaled"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=512, help="images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=160, help="pixels")
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    from labelstack.networks.inference import compile_predict, predict
    from labelstack.networks.model import build_model
    from labelstack.networks.tasks import multi_label

    section = ModelSection(backbone="mobilenet", image_size=arguments.size, head=HeadSection(units=[], dropout=0))
    model = build_model(section, multi_label(section, 228))
    forward = compile_predict(model)
    looks = {
        name: Looks(tuple(single_views(names, VIEWS, 0).values()), arguments.size) for name, names in LISTS.items()
    }
    best = dict.fromkeys(looks, np.inf)
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder), stored(None, arguments.n), 1000)
        for turn in range(arguments.rounds + 1):  # the first is a warm-up
            for name, shown in looks.items():
                start = time.perf_counter()
                batches = shown_batches(Path(folder), None, shown, arguments.batch)
                ids, _ = predict(model, batches, shown.transforms, forward=forward, most=arguments.batch)
                if len(ids) != arguments.n:
                    raise AssertionError(f"{name}: {len(ids)} images instead of {arguments.n}")
                if turn:
                    best[name] = min(best[name], time.perf_counter() - start)
    plain = best["plain: identity"]
    print(f"\n{arguments.n} images, {arguments.size} px, batches of {arguments.batch}")
    print(f"{'':24}views   seconds   a view / plain")
    for name, shown in looks.items():
        each = best[name] / len(shown.views)
        print(f"{name:24}{len(shown.views):5}{best[name]:10.2f}{each / plain:17.2f}")


if __name__ == "__main__":
    main()
