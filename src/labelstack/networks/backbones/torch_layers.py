"""Layers that bear the names of PyTorch's modules, so that a state dict says itself where each tensor goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
from keras import layers
from numpy.typing import NDArray

from labelstack.networks.backbones.pretrained import (
    BATCH_NORM,
    CONVOLUTION,
    DEPTHWISE,
    TensorPlace,
    put,
)

_DENSE = (1, 0)  # [out, in] → [in, out]
_COUNTER = "num_batches_tracked"


def convolution(
    x: Any,
    filters: int,
    kernel: int | tuple[int, int],
    name: str,
    *,
    stride: int = 1,
    padding: str = "same",
) -> Any:
    """Convolution without bias; ``padding`` as in Keras, which is PyTorch's symmetric one where ``stride`` is 1."""
    return layers.Conv2D(
        filters, kernel, stride, padding=padding, use_bias=False, kernel_initializer=_initializer(), name=name
    )(x)


def depthwise(x: Any, kernel: int, name: str, *, stride: int = 1) -> Any:
    """Depthwise convolution without bias, padded as TensorFlow does ("same")."""
    return layers.DepthwiseConv2D(
        kernel, stride, padding="same", use_bias=False, depthwise_initializer=_initializer(), name=name
    )(x)


def padded(x: Any, by: int, name: str) -> Any:
    """Zeros on all four sides: at stride 2 PyTorch pads alike on both sides, "same" of Keras does not."""
    return layers.ZeroPadding2D(by, name=name)(x)


def batch_norm(x: Any, name: str, *, epsilon: float = 1e-5, momentum: float = 0.9, gamma: str = "ones") -> Any:
    """Batch normalization; the momentum is that of Keras: PyTorch's default 0.1 is 0.9 here."""
    return layers.BatchNormalization(epsilon=epsilon, momentum=momentum, gamma_initializer=gamma, name=name)(x)


def relu(x: Any, name: str) -> Any:
    """Rectifier."""
    return layers.ReLU(name=name)(x)


def places_of(body: keras.Model) -> Iterator[tuple[str, TensorPlace]]:
    """Name and place of each tensor that a network is made of, where its layers are named as PyTorch's modules."""
    for layer in body.layers:
        if isinstance(layer, layers.BatchNormalization):
            yield from (
                (f"{layer.name}.{theirs}", TensorPlace(layer.name, ours)) for theirs, ours in BATCH_NORM.items()
            )
        elif isinstance(layer, layers.Conv2D):
            yield f"{layer.name}.weight", TensorPlace(layer.name, "kernel", CONVOLUTION)
        elif isinstance(layer, layers.DepthwiseConv2D):
            yield f"{layer.name}.weight", TensorPlace(layer.name, "kernel", DEPTHWISE)
        elif isinstance(layer, layers.Dense):
            yield f"{layer.name}.weight", TensorPlace(layer.name, "kernel", _DENSE)
            yield f"{layer.name}.bias", TensorPlace(layer.name, "bias")


def load_named(
    body: keras.Model,
    tensors: Mapping[str, NDArray[Any]],
    source: str,
    classifier: str,
    classes: Sequence[int] = (1000,),
) -> None:
    """Put a whole network's state dict into a network whose layers are named as PyTorch's modules.

    Parameters
    ----------
    tensors : by name, in PyTorch's order of axes. All must be there and no others; the classifier and the counters of
        batches are not used. Files of before PyTorch 0.4.1 have no counters at all, which is allowed.
    source : for errors
    classifier : name of the module behind the pooling
    classes : how many the classifier may have, the usual number first

    Raises
    ------
    InputProblems
        See ``pretrained.put``.
    """
    places = dict(places_of(body))
    rows = tensors[f"{classifier}.bias"].shape[:1] if f"{classifier}.bias" in tensors else ()
    n_classes = rows[0] if rows and rows[0] in classes else classes[0]
    unused: dict[str, tuple[int, ...]] = {
        f"{classifier}.weight": (n_classes, body.output.shape[-1]),
        f"{classifier}.bias": (n_classes,),
    }
    if any(name.endswith(_COUNTER) for name in tensors):
        means = [name for name, place in places.items() if place.variable == "moving_mean"]
        unused |= {name.replace("running_mean", _COUNTER): () for name in means}
    put(body, tensors, places, unused, source)


def _initializer() -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="truncated_normal")
