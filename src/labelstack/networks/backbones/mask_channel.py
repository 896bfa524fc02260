"""A backbone that takes the mask of a region as a fourth channel, and at first answers as it would without."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from labelstack.support.errors import UserError

# Of a channel that is new: scales and variances are 1, so that the kernels behind them, which are 0, can learn.
_ONES = ("gamma", "variance", "moving_variance")


@keras.saving.register_keras_serializable(package="labelstack")
class MaskBeside(layers.Layer):  # type: ignore[misc]
    """The preprocessing of the colours, and the mask beside them: 0 outside, ``span`` within.

    Parameters
    ----------
    colours : layer, pixels 0 … 255 [b, h, w, 3] → what the network wants
    span : how far apart black and white are then, so that the mask is neither faint nor loud
    """

    def __init__(self, colours: layers.Layer, span: float, **options: Any) -> None:
        super().__init__(**options)
        self.colours, self.span = colours, span

    def call(self, images: Any) -> Any:
        """Pixels 0 … 255 [b, h, w, 4], any dtype → float32 of the same shape."""
        mask = ops.cast(images[..., 3:], self.compute_dtype) * (self.span / 255)
        return ops.concatenate([self.colours(images[..., :3]), mask], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """What makes the same layer again."""
        colours = keras.saving.serialize_keras_object(self.colours)
        return {**super().get_config(), "colours": colours, "span": self.span}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> MaskBeside:
        """The layer of ``get_config``."""
        return cls(**{**config, "colours": keras.saving.deserialize_keras_object(config["colours"])})


def with_mask_channel(name: str, backbone: keras.Model) -> keras.Model:
    """The same network for images of four channels, whose fourth counts nothing until it has learnt to.

    Where layers meet the mask their weights grow by one channel: of kernels by zeros.

    Parameters
    ----------
    name : of the backbone, for errors
    backbone : from ``build_backbone``

    Raises
    ------
    UserError
        When its layers cannot grow so.
    """
    colours, body = backbone.layers[1], backbone.get_layer("body")
    size = body.input.shape[1]
    config = _without_built(body.get_config())
    first = next(one for one in config["layers"] if one["class_name"] == "InputLayer")
    first["config"]["batch_shape"] = [None, size, size, 4]
    try:
        wider = type(body).from_config(config)
        for layer, grown in zip(body.layers, wider.layers, strict=True):
            grown.set_weights(_grown(layer, grown))
    except (ValueError, TypeError, KeyError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise UserError(
            f"{name}: its layers take no mask as a fourth channel ({reason}): use mask: grey, or none"
        ) from None
    image = keras.Input((size, size, 4), dtype="uint8", name="pixels")
    beside = MaskBeside(type(colours).from_config(colours.get_config()), _span(colours), dtype="float32", name="mask")
    return keras.Model(image, wider(beside(image)), name="backbone")


def _grown(layer: layers.Layer, grown: layers.Layer) -> list[NDArray[Any]]:
    """A layer's weights, with a channel more where the other has one more."""
    found = []
    for weight, place in zip(layer.weights, grown.weights, strict=True):
        value, wanted = np.asarray(weight), tuple(place.shape)
        more = [(0, new - old) for new, old in zip(wanted, value.shape, strict=True)]
        if sum(after for _, after in more) not in (0, 1) or min([after for _, after in more], default=0) < 0:
            raise ValueError(f"{layer.name}: weights {list(value.shape)} would become {list(wanted)}")
        fill = 1 if weight.name in _ONES else 0
        found.append(np.pad(value, more, constant_values=fill) if value.shape != wanted else value)
    return found


def _span(colours: layers.Layer) -> float:
    """How far apart white and black are after the preprocessing, the mean over channels."""
    black, white = (np.asarray(colours(np.full((1, 1, 1, 3), value, np.float32))) for value in (0, 255))
    return float(np.abs(white - black).mean())


def _without_built(config: Any) -> Any:
    """A model's config without the shapes that layers were built for."""
    if isinstance(config, dict):
        return {key: _without_built(value) for key, value in config.items() if key != "build_config"}
    return [_without_built(one) for one in config] if isinstance(config, list | tuple) else config
