"""ResNet with convolutional block attention (Woo et al. 2018), names as in Jongchan/attention-module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers, ops
from numpy.typing import NDArray

from labelstack.networks.backbones.architecture import Architecture, standardized
from labelstack.networks.backbones.pretrained import put_by_name
from labelstack.networks.backbones.torch_layers import batch_norm, convolution, max_pool, rectified

_PARALLEL = "module."  # before every name where a network was saved as it lay on several GPUs


@keras.saving.register_keras_serializable(package="labelstack")
class ChannelExtremes(layers.Layer):  # type: ignore[misc]
    """Largest and mean value over the channels, in this order."""

    def call(self, features: Any) -> Any:
        """Feature map [b, h, w, c] → [b, h, w, 2]."""
        largest, mean = ops.max(features, -1, keepdims=True), ops.mean(features, -1, keepdims=True)
        return ops.concatenate([largest, mean], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Two channels instead of the input's."""
        return (*input_shape[:-1], 2)


def network(
    image_size: int, stem: int = 64, repeats: tuple[int, int, int, int] = (3, 4, 6, 3), reduction: int = 16
) -> keras.Model:
    """Preprocessed image [b, S, S, 3] → feature map [b, ⌈S/32⌉, ⌈S/32⌉, 32 · stem], weights drawn.

    Parameters
    ----------
    image_size : at least 32
    stem : filters of the first convolution; stages have 4, 8, 16 and 32 times as many
    repeats : blocks of each stage
    reduction : channels of a block over those inside its channel gate
    """
    image = keras.Input((image_size, image_size, 3), name="preprocessed")
    x = convolution(image, stem, 7, "conv1", stride=2)
    x = rectified(batch_norm(x, "bn1"), "relu")
    # Behind a rectifier zeros are as good as nothing: the largest value stays.
    x = max_pool(x, "maxpool")
    for stage, blocks in enumerate(repeats, start=1):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            x = _block(x, stem * 2 ** (stage - 1), stride, block == 0, reduction, f"layer{stage}.{block}")
    return keras.Model(image, x, name="cbam_resnet")


def load_state(body: keras.Model, tensors: Mapping[str, NDArray[Any]], source: str) -> None:
    """Put a state dict of Jongchan's ``ResidualNet("ImageNet", 50, 1000, "CBAM")`` into a ``network``.

    Names may all begin with ``module.``; see ``pretrained.put_by_name``.
    """
    if tensors and all(name.startswith(_PARALLEL) for name in tensors):
        tensors = {name.removeprefix(_PARALLEL): tensor for name, tensor in tensors.items()}
    put_by_name(body, tensors, "fc", source)


def _block(x: Any, planes: int, stride: int, first: bool, reduction: int, name: str) -> Any:
    before, filters = x, 4 * planes
    x = rectified(batch_norm(convolution(x, planes, 1, f"{name}.conv1"), f"{name}.bn1"), f"{name}.relu1")
    x = convolution(x, planes, 3, f"{name}.conv2", stride=stride)
    x = rectified(batch_norm(x, f"{name}.bn2"), f"{name}.relu2")
    x = batch_norm(convolution(x, filters, 1, f"{name}.conv3"), f"{name}.bn3")
    if first:
        before = convolution(before, filters, 1, f"{name}.downsample.0", stride=stride)
        before = batch_norm(before, f"{name}.downsample.1")
    x = _spatial_gate(_channel_gate(x, reduction, f"{name}.cbam.ChannelGate"), f"{name}.cbam.SpatialGate")
    return rectified(layers.Add(name=f"{name}.add")([x, before]), name)


def _channel_gate(x: Any, reduction: int, name: str) -> Any:
    """Each channel times one number of 0…1, from its mean and its largest value."""
    channels = x.shape[-1]
    inner = layers.Dense(channels // reduction, activation="relu", name=f"{name}.mlp.1")
    outer = layers.Dense(channels, name=f"{name}.mlp.3")
    mean = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}.avg_pool")(x)
    largest = layers.GlobalMaxPooling2D(keepdims=True, name=f"{name}.max_pool")(x)
    raw = layers.Add(name=f"{name}.sum")([outer(inner(mean)), outer(inner(largest))])
    return layers.Multiply(name=name)([x, layers.Activation("sigmoid", name=f"{name}.sigmoid")(raw)])


def _spatial_gate(x: Any, name: str) -> Any:
    """Each place times one number of 0…1, from the mean and the largest of its channels and of those around it."""
    raw = convolution(ChannelExtremes(name=f"{name}.compress")(x), 1, 7, f"{name}.spatial.conv")
    raw = batch_norm(raw, f"{name}.spatial.bn", momentum=0.99, gamma="zeros")
    return layers.Multiply(name=name)([x, layers.Activation("sigmoid", name=f"{name}.sigmoid")(raw)])


def _body(image_size: int, weights: str | None) -> keras.Model:
    return network(image_size)


ARCHITECTURES = {"cbam_resnet50": Architecture(_body, standardized, published=False, load_state=load_state)}
