"""What timm's networks answer: figures for tests/networks/timm_reference.json, and whole feature maps.

In an environment of its own, with torch, pillow, pyyaml, safetensors, huggingface_hub and, --no-deps, timm:

    PYTHONPATH=tests python benchmarks/timm_reference.py tests/networks/timm_reference.json [FOLDER]

With a FOLDER the feature maps are written there as <name>.npy; with labelstack's environment

    PYTHONPATH=tests python benchmarks/timm_reference.py --compare FOLDER

prints parameters of ours, the largest difference to each, and its share of the spread of timm's features.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np

from networks.seeded_weights import pixels, summary
from networks.timm_networks import PAIRS, TWIN_SIZES, TWINS, timm_answer, timm_network


def main() -> None:
    if sys.argv[1] == "--compare":
        compare(Path(sys.argv[2]))
        return
    file, folder = Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None
    figures = {}
    for key, pair in {**TWINS, **PAIRS}.items():
        network = timm_network(pair)
        for size in [pair.size] if pair.size else TWIN_SIZES:
            name = key if pair.size else f"{key} {size}"
            features = timm_answer(network, pair, size)
            figures[name] = summary(features)
            print(f"{name}: {features.shape}, mean {features.mean():.3f}, spread {features.std():.3f}", flush=True)
            if folder is not None:
                np.save(folder / f"{name}.npy", features)
    file.write_text(json.dumps(figures, indent=1) + "\n")


def compare(folder: Path) -> None:
    from networks.own_networks import own_network, twin_with_weights

    for key, pair in {**TWINS, **PAIRS}.items():
        for size in [pair.size] if pair.size else TWIN_SIZES:
            network = own_network(pair) if pair.size else twin_with_weights(key, size)
            expected = np.load(folder / f"{key if pair.size else f'{key} {size}'}.npy")
            apart = np.abs(np.asarray(network(pixels(size)), np.float64) - expected).max()
            trained = sum(math.prod(weight.shape) for weight in network.trainable_weights)
            share = f"{apart / expected.std():.1e} of the spread"
            print(f"{key} {size}: {trained:,} parameters, largest difference {apart:.1e}, {share}", flush=True)


if __name__ == "__main__":
    main()
