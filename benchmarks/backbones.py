"""Parameters, images a second and time of a training step of backbones, each with the head of a recipe's model.

    python benchmarks/backbones.py [--params recipes/photos.yaml] [--images 64] [--rounds 3]

Models of the recipe take turns within a round; the least time counts, since other work only makes it longer.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

N_LABELS, STEP = 36, 32


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--params", default="recipes/photos.yaml")
    asked.add_argument("--images", type=int, default=64)
    asked.add_argument("--rounds", type=int, default=3)
    given = asked.parse_args()
    from labelstack.networks.inference import compile_predict
    from labelstack.networks.learner import Learner, make_optimizer
    from labelstack.networks.model import build_model
    from labelstack.networks.tasks import multi_label
    from labelstack.params import load_params

    ways: dict[str, tuple[int, int, Callable[[], Any], Callable[[], Any]]] = {}
    rng = np.random.default_rng(0)
    for name, model in load_params(given.params).models.items():
        model = model.model_copy(update={"weights": "none", "phases": ()})  # what it begins with costs no time later
        task = multi_label(model, N_LABELS, None)
        network = build_model(model, task)
        learner = Learner(network, make_optimizer(model, False), task.loss)
        shape = (given.images, model.image_size, model.image_size, 3)
        images = rng.integers(0, 256, shape, dtype=np.uint8)
        first, targets = images[:STEP], rng.integers(0, 2, (STEP, N_LABELS)).astype(np.float32)
        predict = compile_predict(network)
        ways[name] = (
            network.count_params(),
            model.image_size,
            lambda predict=predict, images=images: predict(images),
            lambda learner=learner, first=first, targets=targets: float(learner.step(first, targets, 1e-4)),
        )
    taken: dict[tuple[str, int], list[float]] = {}
    for number in range(given.rounds + 1):
        for name, (_, _, *passes) in ways.items():
            for which, run in enumerate(passes):
                started = time.perf_counter()
                run()
                if number:  # the first traces
                    taken.setdefault((name, which), []).append(time.perf_counter() - started)
    print(f"{'model':16} {'parameters':>12} {'px':>5} {'images/s':>9} {'ms an image, trained':>21}")
    for name, (parameters, size, *_) in ways.items():
        rate, step = given.images / min(taken[name, 0]), min(taken[name, 1]) / STEP
        print(f"{name:16} {parameters:12,} {size:5} {rate:9.0f} {1000 * step:21.1f}")


if __name__ == "__main__":
    main()
