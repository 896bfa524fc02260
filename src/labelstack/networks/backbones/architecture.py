"""What every backbone's file says about it, and the ways published networks want their pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import layers, ops
from numpy.typing import NDArray

# Per channel, RGB, of ImageNet: for pixels scaled to 0…1, and (BGR order) for pixels 0…255.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)

OptionDefault = float | int | bool | str | list[int] | None

# Of networks that keras.applications publishes.
PUBLISHED_OPTIONS: dict[str, OptionDefault] = {"until": "", "batch_norm_momentum": None}


@dataclass(frozen=True)
class Architecture:
    """One entry of the registry.

    Attributes
    ----------
    body : callable (image_size, weights, **options) → keras.Model
        Preprocessed image [b, S, S, 3] → feature map [b, h, w, c]; ``weights`` is None or ``imagenet``.
    preprocessing : callable () → keras.layers.Layer
        Pixels 0…255 RGB → what ``body`` wants, always in float32.
    options : mapping
        Every option of params.yaml with its default, which also fixes the type; a default of None takes a number.
    published : bool
        Whether ImageNet weights exist.
    published_size : int, optional
        The only image size that the published weights' loader takes.
    load_state : callable (body, tensors, source) → None, optional
        Puts the whole network's tensors, by their published names, into a ``body``; raises ``InputProblems`` where they
        do not fit.
    """

    body: Callable[..., keras.Model]
    preprocessing: Callable[[], layers.Layer]
    options: Mapping[str, OptionDefault] = field(default_factory=lambda: PUBLISHED_OPTIONS)
    published: bool = True
    published_size: int | None = None
    load_state: Callable[[keras.Model, Mapping[str, NDArray[Any]], str], None] | None = None


def plus_minus_one() -> layers.Layer:
    """Pixels to −1…1, the convention of networks born in TensorFlow."""
    return layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32", name="preprocessing")


def standardized() -> layers.Layer:
    """Pixels to 0…1, minus the ImageNet mean, over its standard deviation: the convention of torchvision."""
    scale = [1 / (255 * std) for std in IMAGENET_STD]
    offset = [-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    return layers.Rescaling(scale, offset=offset, dtype="float32", name="preprocessing")


@keras.saving.register_keras_serializable(package="labelstack")
class CaffePreprocessing(layers.Layer):  # type: ignore[misc]
    """RGB to BGR, minus the ImageNet mean, unscaled: the convention of networks born in Caffe."""

    def call(self, images: Any) -> Any:
        """Pixels 0…255 [b, h, w, 3], any dtype → float32 of the same shape."""
        flipped = ops.flip(ops.cast(images, self.compute_dtype), axis=-1)
        return flipped - ops.convert_to_tensor(CAFFE_MEAN_BGR, dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's shape."""
        return input_shape


def caffe() -> layers.Layer:
    """See ``CaffePreprocessing``."""
    return CaffePreprocessing(dtype="float32", name="preprocessing")


def published_body(application: Callable[..., keras.Model], *options: str) -> Callable[..., keras.Model]:
    """A keras.applications network without its classifier; ``options`` name the arguments that it takes from params."""

    def body(image_size: int, weights: str | None, **given: Any) -> keras.Model:
        arguments = {name: given[name] for name in options}
        return application(include_top=False, weights=weights, input_shape=(image_size, image_size, 3), **arguments)

    return body
