"""What timm, PyTorch and MXNet answer: figures for tests/networks/field_reference.json, and whole feature maps.

In an environment of its own, with torch, timm (--no-deps; without torchvision too), safetensors, huggingface_hub,
pyyaml and pillow; and in one with MXNet 1.9.1, whose last NumPy is 1.23.5:

    PYTHONPATH=tests python benchmarks/field_reference.py tests/networks/field_reference.json FOLDER [NAME …]

It adds the figures of the networks that the environment can make, and writes their feature maps to FOLDER as
<name>.npy. With labelstack's environment

    PYTHONPATH=tests python benchmarks/field_reference.py --compare FOLDER [NAME …]

prints the largest difference of ours to each. All networks are filled with the same drawn weights, tensor by tensor.
CBAM-ResNet50 is in neither library: ``cbam_resnet`` here is written after the paper and the names of its authors.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np

from networks.field_weights import SIZES, TWIN_SIZES, TWINS, drawn_for
from networks.seeded_weights import pixels, summary

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5,) * 3, (0.5,) * 3)
STATISTICS = {
    "inception_v4": HALF,
    "pnasnet5_large": HALF,
    "cbam_resnet50": IMAGENET,
    "gluon_resnet152_v2": IMAGENET,
}


def main() -> None:
    if sys.argv[1] == "--compare":
        compare(Path(sys.argv[2]), sys.argv[3:])
        return
    file, folder = Path(sys.argv[1]), Path(sys.argv[2])
    figures = json.loads(file.read_text()) if file.exists() else {}
    for name in sys.argv[3:] or SIZES:
        for label, maps in references(name):
            figures[label] = summary(maps)
            np.save(folder / f"{label}.npy", maps)
            print(label, maps.shape, f"largest {np.abs(maps).max():.3g}, spread {maps.std():.3g}")
    file.write_text(json.dumps(dict(sorted(figures.items())), indent=1) + "\n")


def references(name: str) -> Iterator[tuple[str, Any]]:
    """Label and feature map, float64 [b, h, w, c], of the network and of its twin at two sizes."""
    answer = _gluon_answer if name == "gluon_resnet152_v2" else torch_answer
    yield name, answer(name, {}, SIZES[name])
    for size in TWIN_SIZES[name]:
        yield f"{name}_twin_{size}", answer(name, TWINS[name], size)


def _preprocessed(name: str, size: int) -> Any:
    """float64 [b, c, h, w]: what is left of a difference is then the rounding of ours."""
    mean, std = (np.array(values) for values in STATISTICS[name])
    images = pixels(size, 1 if size > 100 else 2)
    return ((images / 255 - mean) / std).transpose(0, 3, 1, 2)


def torch_answer(name: str, twin: dict[str, Any], size: int) -> Any:
    import torch

    makers = {"inception_v4": inception_v4, "pnasnet5_large": pnasnet, "cbam_resnet50": cbam_resnet}
    network = makers[name](**twin)
    shapes = ((tensor, tuple(value.shape)) for tensor, value in network.state_dict().items())
    tensors = drawn_for(name, shapes)
    network.load_state_dict({tensor: torch.from_numpy(np.asarray(value)) for tensor, value in tensors.items()})
    with torch.inference_mode():
        features = network.double().eval().forward_features(torch.from_numpy(_preprocessed(name, size)))
    return features.permute(0, 2, 3, 1).numpy()


def _timm() -> Any:
    """Package timm, imported with nothing in the place of torchvision where that is not installed."""
    import torch

    stubs = {}
    try:
        import torchvision  # noqa: F401
    except ImportError:
        parts = ("transforms", "transforms.functional", "datasets", "ops", "ops.misc", "models", "utils")
        names = (f"torchvision.{part}" for part in (*parts, "models.feature_extraction"))
        stubs = {name: MagicMock() for name in ("torchvision", *names)}
        stubs["torchvision.ops.misc"].FrozenBatchNorm2d = type("FrozenBatchNorm2d", (torch.nn.Module,), {})
    sys.modules.update(stubs)
    import timm

    for name in stubs:
        del sys.modules[name]
    return timm


def inception_v4(width: float = 1.0, repeats: tuple[int, int, int] = (4, 7, 3)) -> Any:
    """timm's network; its blocks take the maker of their convolutions, so that a narrow one is put together of them."""
    timm = _timm()
    from torch import nn

    blocks = import_module("timm.models.inception_v4")  # the package's attribute of this name is a function
    network = timm.create_model("inception_v4")
    if width == 1:
        return network

    def unit(inputs: int, outputs: int, **keys: Any) -> Any:
        narrow = inputs if inputs == 3 else round(inputs * width)
        keys = {"padding": 0, "norm_kwargs": {"eps": 1e-3}, **keys}
        return blocks.ConvNormAct(narrow, round(outputs * width), **keys)

    a, b, c = repeats
    network.features = nn.Sequential(
        unit(3, 32, kernel_size=3, stride=2),
        unit(32, 32, kernel_size=3, stride=1),
        unit(32, 64, kernel_size=3, stride=1, padding=1),
        blocks.Mixed3a(unit),
        blocks.Mixed4a(unit),
        blocks.Mixed5a(unit),
        *(blocks.InceptionA(unit) for _ in range(a)),
        blocks.ReductionA(unit),
        *(blocks.InceptionB(unit) for _ in range(b)),
        blocks.ReductionB(unit),
        *(blocks.InceptionC(unit) for _ in range(c)),
    )
    network.last_linear = nn.Linear(round(1536 * width), 1000)
    return network


def pnasnet(stem: int = 96, filters: int = 54, repeats: tuple[int, int, int] = (4, 3, 3)) -> Any:
    """timm's network, or a narrow one of its cells."""
    timm = _timm()
    if stem == 96:
        return timm.create_model("pnasnet5large")
    from torch import nn

    cells = import_module("timm.models.pnasnet")

    class Narrow(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            norm = {"norm_layer": partial(nn.BatchNorm2d, eps=0.001), "apply_act": False}
            self.conv_0 = cells.ConvNormAct(3, stem, kernel_size=3, stride=2, padding=0, **norm)
            self.cell_stem_0 = cells.CellStem0(stem, filters, stem, filters, pad_type="same")
            self.order = ["cell_stem_1"]
            self._add("cell_stem_1", stem, 2 * filters, 5 * filters, larger=True, reduction=True)
            before, last = 5 * filters, 10 * filters
            for level, repeat in enumerate(repeats):
                for number in range(repeat + (level > 0)):
                    name, width = f"cell_{len(self.order) - 1}", filters * 4 * 2**level
                    reduction = level > 0 and number == 0
                    self._add(name, before, width, last, larger=number == (level > 0), reduction=reduction)
                    self.order.append(name)
                    before, last = last, 5 * width
            self.act, self.last_linear = nn.ReLU(), nn.Linear(last, 1000)

        def _add(self, name: str, left: int, width: int, right: int, *, larger: bool, reduction: bool) -> None:
            keys = {"match_prev_layer_dims": larger, "is_reduction": reduction}
            setattr(self, name, cells.Cell(left, width, right, width, pad_type="same", **keys))

        def forward_features(self, image: Any) -> Any:
            before = self.conv_0(image)
            last = self.cell_stem_0(before)
            for name in self.order:
                before, last = last, getattr(self, name)(before, last)
            return self.act(last)

    return Narrow()


def cbam_resnet(stem: int = 64, repeats: tuple[int, ...] = (3, 4, 6, 3), reduction: int = 16) -> Any:
    import torch
    from torch import nn

    class Gates(nn.Module):  # type: ignore[misc]
        def __init__(self, channels: int) -> None:
            super().__init__()
            hidden = channels // reduction
            self.ChannelGate, self.SpatialGate = nn.Module(), nn.Module()
            parts = [nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels)]
            self.ChannelGate.mlp = nn.Sequential(*parts)
            self.SpatialGate.spatial = nn.Module()
            self.SpatialGate.spatial.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
            self.SpatialGate.spatial.bn = nn.BatchNorm2d(1, momentum=0.01)

        def forward(self, x: Any) -> Any:
            mlp, spatial = self.ChannelGate.mlp, self.SpatialGate.spatial
            x = x * torch.sigmoid(mlp(x.mean((2, 3))) + mlp(x.amax((2, 3))))[:, :, None, None]
            seen = torch.stack([x.amax(1), x.mean(1)], 1)
            return x * torch.sigmoid(spatial.bn(spatial.conv(seen)))

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, inputs: int, planes: int, stride: int) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(inputs, planes, 1, bias=False), nn.BatchNorm2d(planes)
            self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(planes)
            self.conv3, self.bn3 = nn.Conv2d(planes, 4 * planes, 1, bias=False), nn.BatchNorm2d(4 * planes)
            self.cbam = Gates(4 * planes)
            if stride > 1 or inputs != 4 * planes:
                shortcut = nn.Conv2d(inputs, 4 * planes, 1, stride, bias=False)
                self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(4 * planes))
            else:
                self.downsample = nn.Identity()

        def forward(self, x: Any) -> Any:
            inside = self.bn1(self.conv1(x)).relu()
            inside = self.bn2(self.conv2(inside)).relu()
            return (self.cbam(self.bn3(self.conv3(inside))) + self.downsample(x)).relu()

    class ResNet(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, stem, 7, 2, 3, bias=False), nn.BatchNorm2d(stem)
            self.maxpool, inputs = nn.MaxPool2d(3, 2, 1), stem
            for number, blocks in enumerate(repeats):
                planes, stage = stem * 2**number, []
                for block in range(blocks):
                    stage.append(Block(inputs, planes, 2 if number and not block else 1))
                    inputs = 4 * planes
                setattr(self, f"layer{number + 1}", nn.Sequential(*stage))
            self.fc = nn.Linear(inputs, 1000)

        def forward_features(self, x: Any) -> Any:
            x = self.maxpool(self.bn1(self.conv1(x)).relu())
            for number in range(len(repeats)):
                x = getattr(self, f"layer{number + 1}")(x)
            return x

    return ResNet()


def _gluon_answer(name: str, twin: dict[str, Any], size: int) -> Any:
    import mxnet
    from mxnet.gluon.model_zoo.vision import resnet

    stem, repeats = twin.get("stem", 64), list(twin.get("repeats", (3, 8, 36, 3)))
    network = resnet.ResNetV2(resnet.BottleneckV2, repeats, [stem, *(stem * 4 * 2**n for n in range(4))])
    network.initialize()
    network(mxnet.nd.zeros((1, 3, 64, 64)))  # only then are shapes known
    network.cast("float64")
    parameters = network._collect_params_with_prefix()
    drawn = drawn_for(name, ((tensor, value.shape) for tensor, value in parameters.items()))
    drawn["features.0.beta"] *= 0  # as it stays in MXNet
    for tensor, value in parameters.items():
        value.set_data(mxnet.nd.array(drawn[tensor], dtype="float64"))
    x = mxnet.nd.array(_preprocessed(name, size), dtype="float64")
    for part in list(network.features)[:-2]:  # without pooling and flattening
        x = part(x)
    return x.asnumpy().transpose(0, 2, 3, 1)


def compare(folder: Path, names: list[str]) -> None:
    import keras

    from networks.field_networks import answer, body_of

    for name in names or SIZES:
        twins = [(f"{name}_twin_{size}", TWINS[name], size) for size in TWIN_SIZES[name]]
        for label, twin, size in [(name, {}, SIZES[name]), *twins]:
            expected = np.load(folder / f"{label}.npy")
            keras.utils.clear_session()
            body = body_of(name, size, twin)
            weights = sum(math.prod(weight.shape) for weight in body.trainable_weights)
            largest = np.abs(answer(name, body) - expected).max()
            share = largest / expected.std()
            print(f"{label}: {weights:,} trainable, largest difference {largest:.1e}, {share:.1e} of the spread")


if __name__ == "__main__":
    main()
