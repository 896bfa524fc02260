"""Our side of ``timm_networks``: the same networks and twins, filled with the same drawn weights."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from labelstack.networks.backbones import architecture_of, efficientnet_lite
from labelstack.networks.backbones.architecture import PUBLISHED_OPTIONS
from labelstack.networks.backbones.pretrained import TensorPlace, places_by_name
from labelstack.networks.backbones.se_resnext import ARCHITECTURES as SE
from labelstack.networks.backbones.torch_densenet import ARCHITECTURES as DENSE
from labelstack.networks.backbones.torch_densenet import DenseShape, dense_network
from labelstack.networks.backbones.torch_resnet import ARCHITECTURES as RESIDUAL
from labelstack.networks.backbones.torch_resnet import ResidualShape, residual_network
from networks.lite_networks import narrow
from networks.timm_networks import TWINS, Pair, filled

_NARROW = (32, 48, 64, 96)
_LEGACY = ResidualShape((2, 1, 1, 1), groups=32, group_width=4, squeeze=True)
_SQUEEZED = ResidualShape((2, 1, 2, 1), _NARROW, groups=4, group_width=16, squeeze=True)
MAKERS = {
    "basic": (lambda size: residual_network(size, ResidualShape((2, 1, 2, 1), _NARROW, expansion=1)), RESIDUAL),
    "bottleneck": (lambda size: residual_network(size, ResidualShape((2, 1, 2, 1), _NARROW)), RESIDUAL),
    "squeezed": (lambda size: residual_network(size, _SQUEEZED), SE),
    "squeezed legacy": (lambda size: residual_network(size, _LEGACY, "legacy"), SE),
    "dense": (lambda size: dense_network(size, DenseShape((2, 3, 2, 2), 8)), DENSE),
    "lite": (narrow, efficientnet_lite.ARCHITECTURES),
}


def twin_body(key: str, size: int) -> keras.Model:
    """Weights as Keras draws them."""
    return MAKERS[key][0](size)


def twin_with_weights(key: str, size: int) -> keras.Model:
    """Pixels → features."""
    architecture = next(iter(MAKERS[key][1].values()))
    return _whole(twin_body(key, size), architecture, TWINS[key])


def own_network(pair: Pair) -> keras.Model:
    """Pixels → features of a full network."""
    architecture = architecture_of(pair.backbone)
    usual = {key: value for key, value in architecture.options.items() if key not in PUBLISHED_OPTIONS}
    return _whole(architecture.body(pair.size, None, **{**usual, **pair.options}), architecture, pair)


def places_in(body: keras.Model) -> dict[str, TensorPlace]:
    """Name and place of each tensor, as timm names them."""
    lite = any(layer.name == "stem_conv" for layer in body.layers)
    return dict(efficientnet_lite.timm_places_of(body) if lite else places_by_name(body))


def state_of(body: keras.Model, pair: Pair, classifier: str = "", classes: int = 7) -> dict[str, NDArray[Any]]:
    """Drawn tensors as a file of timm's has them, counters too, and a classifier if one is named."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, place in places_in(body).items():
        variable = getattr(body.get_layer(place.layer), place.variable)
        shapes[name] = np.empty(variable.shape, bool).transpose(np.argsort(place.axes)).shape
        if place.variable == "moving_mean":
            shapes[name.replace("running_mean", "num_batches_tracked")] = ()
    if classifier:
        shapes |= {f"{classifier}.weight": (classes, body.output.shape[-1]), f"{classifier}.bias": (classes,)}
    return filled(pair, shapes.items())


def _whole(body: keras.Model, architecture: Any, pair: Pair) -> keras.Model:
    architecture.load_state(body, state_of(body, pair), "drawn")
    image = keras.Input((*body.input.shape[1:3], 3), dtype="uint8")
    return keras.Model(image, body(architecture.preprocessing()(image)))
