"""The networks of ``field_weights``, whole and narrow, with drawn weights, and the tensors that fill them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from labelstack.networks.backbones import architecture_of, gluon_resnet
from labelstack.networks.backbones.pretrained import places_by_name
from labelstack.params.backbone_names import OWN
from networks.field_weights import TWINS, drawn_for
from networks.seeded_weights import pixels

CLASSIFIERS = {
    "inception_v4": "last_linear",
    "pnasnet5_large": "last_linear",
    "cbam_resnet50": "fc",
    "gluon_resnet152_v2": "output",
}


def shapes_of(name: str, body: keras.Model) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of a whole network's file, in the library's order of axes."""
    shapes = {f"{CLASSIFIERS[name]}.weight": (1000, body.output.shape[-1]), f"{CLASSIFIERS[name]}.bias": (1000,)}
    if name == "gluon_resnet152_v2":
        places = dict(gluon_resnet.places_of(body, lambda layer, parameter: f"{layer}.{parameter}"))
        shapes |= {"features.0.gamma": (3,), "features.0.beta": (3,)}
    else:
        places = dict(places_by_name(body))
    for tensor, place in places.items():
        variable = getattr(body.get_layer(place.layer), place.variable)
        shapes[tensor] = np.empty(variable.shape, bool).transpose(np.argsort(place.axes)).shape
        if place.variable == "moving_mean" and name != "gluon_resnet152_v2":
            shapes[tensor.replace("running_mean", "num_batches_tracked")] = ()
    return shapes


def state_for(name: str, body: keras.Model) -> dict[str, NDArray[Any]]:
    """Drawn tensors for a whole network, those that are not used included."""
    state = drawn_for(name, shapes_of(name, body).items())
    if name == "gluon_resnet152_v2":
        state["features.0.beta"] = np.zeros(3, np.float32)
    return state


def network_of(name: str, size: int, twin: dict[str, Any] | None = None) -> keras.Model:
    """Untrained; ``twin`` None: the narrow one, {}: the whole one."""
    network: keras.Model = import_module(OWN[name].module).network(size, **(TWINS[name] if twin is None else twin))
    return network


def body_of(name: str, size: int, twin: dict[str, Any] | None = None) -> keras.Model:
    """Filled with drawn weights."""
    body = network_of(name, size, twin)
    load_state = architecture_of(name).load_state
    assert load_state is not None
    load_state(body, state_for(name, body), "drawn")
    return body


def answer(name: str, body: keras.Model) -> NDArray[np.float32]:
    """Feature map of the reference's pixels, float32 [b, h, w, c]."""
    size = body.input.shape[1]
    preprocessed = architecture_of(name).preprocessing()(pixels(size, 1 if size > 100 else 2))
    return np.asarray(body(preprocessed))
