"""Which file has which loss: names alone, so that a further one changes nothing about those that are there."""

from __future__ import annotations

from labelstack.support.catalogue import Catalogue

LOSSES = Catalogue(
    "labelstack.losses",
    {
        name: f"labelstack.networks.losses.{name}:{name}"
        for name in ("bce", "balanced_bce", "focal", "f_beta", "forgiving", "cross_entropy")
    },
)
# Our own → the `dataset.task` that it is for; one of a plug-in may be for any.
LOSS_TASKS: dict[str, str] = {
    "bce": "multi_label",
    "balanced_bce": "multi_label",
    "focal": "multi_label",
    "f_beta": "multi_label",
    "forgiving": "multi_label",
    "cross_entropy": "single_label",
}
