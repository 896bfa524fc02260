"""Pre-activation ResNet v2 (He et al. 2016) as in MXNet's Gluon model zoo, which is not that of keras.applications."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
from keras import layers
from numpy.typing import NDArray

from labelstack.networks.backbones.architecture import Architecture, standardized
from labelstack.networks.backbones.pretrained import CONVOLUTION, TensorPlace, put
from labelstack.networks.backbones.torch_layers import batch_norm, convolution, max_pool, rectified
from labelstack.support.errors import InputProblems

_BATCH_NORM = {"gamma": "gamma", "beta": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_INPUT = "features.0"
_OUTSIDE_STAGES = {_INPUT: "batchnorm0", "features.1": "conv0", "features.2": "batchnorm1", "features.9": "batchnorm2"}
_FIRST_STAGE, _CLASSES = 5, 1000
_Names = Callable[[str, str], str]  # of a layer and a parameter of it


def network(image_size: int, stem: int = 64, repeats: tuple[int, int, int, int] = (3, 8, 36, 3)) -> keras.Model:
    """Preprocessed image [b, S, S, 3] → feature map [b, ⌈S/32⌉, ⌈S/32⌉, 32 · stem], weights drawn.

    Parameters
    ----------
    image_size : at least 32
    stem : filters of the first convolution; stages have 4, 8, 16 and 32 times as many
    repeats : blocks of each stage
    """
    image = keras.Input((image_size, image_size, 3), name="preprocessed")
    x = layers.BatchNormalization(epsilon=1e-5, momentum=0.9, center=False, scale=False, name=_INPUT)(image)
    x = convolution(x, stem, 7, "features.1", stride=2)
    x = rectified(batch_norm(x, "features.2"), "features.3")
    # Behind a rectifier zeros are as good as nothing: the largest value stays.
    x = max_pool(x, "features.4")
    for stage, blocks in enumerate(repeats):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            name = f"features.{_FIRST_STAGE + stage}.{block}"
            x = _block(x, stem * 2 ** (stage + 2), stride, block == 0, name)
    x = rectified(batch_norm(x, "features.9"), "features.10")
    return keras.Model(image, x, name="gluon_resnet")


def load_state(body: keras.Model, tensors: Mapping[str, NDArray[Any]], source: str) -> None:
    """Put the parameters of MXNet's ``resnet152_v2`` into a ``network``.

    Parameters
    ----------
    tensors : of the whole network, in one of Gluon's two ways to name them: ``resnetv20_stage1_conv0_weight``, where
        what stands before the first ``_`` may be anything, or ``features.5.0.conv1.weight``. All must be there and no
        others. Two kinds are not used: the dense layer, and scale and shift of the input's normalization.
    source : for errors

    Raises
    ------
    InputProblems
        See ``pretrained.put``; also when the input's normalization shifts, which the network's does not.
    """
    counted = not any("." in name for name in tensors)
    name_of = _counted(tensors) if counted else _structural
    dense, scale, shift = "dense0" if counted else "output", name_of(_INPUT, "gamma"), name_of(_INPUT, "beta")
    # Gluon fixes the scale at 1 whatever the file says, and only begins the shift at 0.
    if shift in tensors and tensors[shift].any():
        raise InputProblems(source, [f"{shift}: expected zeros, since the network does not shift its input"])
    unused: dict[str, tuple[int, ...]] = {
        name_of(dense, "weight"): (_CLASSES, body.output.shape[-1]),
        name_of(dense, "bias"): (_CLASSES,),
        scale: (3,),
        shift: (3,),
    }
    put(body, tensors, dict(places_of(body, name_of)), unused, source)


def places_of(body: keras.Model, name_of: _Names) -> Iterator[tuple[str, TensorPlace]]:
    """Name and place of each tensor that a ``network`` is made of."""
    for layer in body.layers:
        if isinstance(layer, layers.BatchNormalization):
            for theirs, ours in _BATCH_NORM.items():
                if layer.name != _INPUT or theirs.startswith("running"):
                    yield name_of(layer.name, theirs), TensorPlace(layer.name, ours)
        elif isinstance(layer, layers.Conv2D):
            yield name_of(layer.name, "weight"), TensorPlace(layer.name, "kernel", CONVOLUTION)


def _structural(layer: str, parameter: str) -> str:
    return f"{layer}.{parameter}"


def _counted(tensors: Mapping[str, NDArray[Any]]) -> _Names:
    """Names that count convolutions and normalizations by stage, behind a prefix: what most of the tensors have."""
    prefixes = Counter(name.partition("_")[0] for name in tensors).most_common(1)
    prefix = prefixes[0][0] if prefixes else "resnetv20"

    def name_of(layer: str, parameter: str) -> str:
        if layer in _OUTSIDE_STAGES or layer.count(".") != 3:
            return f"{prefix}_{_OUTSIDE_STAGES.get(layer, layer)}_{parameter}"
        _, stage, block, part = layer.split(".")
        # The first block's fourth convolution is its shortcut.
        number = 3 if part == "downsample" else 3 * int(block) + int(part[-1]) - 1
        number += part.startswith("conv") and int(block) > 0
        kind = "batchnorm" if part.startswith("bn") else "conv"
        return f"{prefix}_stage{int(stage) - _FIRST_STAGE + 1}_{kind}{number}_{parameter}"

    return name_of


def _block(x: Any, filters: int, stride: int, first: bool, name: str) -> Any:
    """Three times normalization, ReLU, convolution; the first block's shortcut begins behind the first ReLU."""
    inside = rectified(batch_norm(x, f"{name}.bn1"), f"{name}.relu1")
    before = convolution(inside, filters, 1, f"{name}.downsample", stride=stride) if first else x
    x = convolution(inside, filters // 4, 1, f"{name}.conv1")
    x = rectified(batch_norm(x, f"{name}.bn2"), f"{name}.relu2")
    x = convolution(x, filters // 4, 3, f"{name}.conv2", stride=stride)
    x = rectified(batch_norm(x, f"{name}.bn3"), f"{name}.relu3")
    return layers.Add(name=name)([convolution(x, filters, 1, f"{name}.conv3"), before])


def _body(image_size: int, weights: str | None) -> keras.Model:
    return network(image_size)


ARCHITECTURES = {"gluon_resnet152_v2": Architecture(_body, standardized, published=False, load_state=load_state)}
