"""MobileNet v1 (Howard et al. 2017) and v2 (Sandler et al. 2018); ``alpha`` scales the width of every layer."""

from keras import applications

from labelstack.networks.backbones.architecture import (
    PUBLISHED_OPTIONS,
    Architecture,
    OptionDefault,
    plus_minus_one,
    published_body,
)

_OPTIONS: dict[str, OptionDefault] = {"alpha": 1.0, **PUBLISHED_OPTIONS}

ARCHITECTURES = {
    "mobilenet": Architecture(published_body(applications.MobileNet, "alpha"), plus_minus_one, _OPTIONS),
    "mobilenet_v2": Architecture(published_body(applications.MobileNetV2, "alpha"), plus_minus_one, _OPTIONS),
}
