"""A narrow EfficientNet-Lite with drawn weights, and the tensors that fill one."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from labelstack.networks.backbones.efficientnet_lite import ARCHITECTURES, load_state, network, places_of
from networks.seeded_weights import drawn


def narrow(size: int = 32) -> keras.Model:
    return network(size, width=0.25, depth=1.1)


def state_for(body: keras.Model) -> dict[str, NDArray[Any]]:
    """Drawn tensors for a whole network, classifier and counters included, in PyTorch's order of axes."""
    shapes = {"_fc.weight": (1000, 1280), "_fc.bias": (1000,)}
    for name, place in places_of(body):
        variable = getattr(body.get_layer(place.layer), place.variable)
        shapes[name] = np.empty(variable.shape, bool).transpose(np.argsort(place.axes)).shape
        if place.variable == "moving_mean":
            shapes[name.replace("running_mean", "num_batches_tracked")] = ()
    return drawn(shapes.items())


def twin(size: int) -> keras.Model:
    """Pixels → features, filled with drawn weights."""
    body = narrow(size)
    load_state(body, state_for(body), "drawn")
    image = keras.Input((size, size, 3), dtype="uint8")
    return keras.Model(image, body(ARCHITECTURES["efficientnet_lite0"].preprocessing()(image)))
