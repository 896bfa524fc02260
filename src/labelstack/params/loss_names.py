"""Which file has which loss: names alone, so that a further one changes nothing about those that are there."""

from __future__ import annotations

from labelstack.support.catalogue import Catalogue

LOSSES = Catalogue(
    "labelstack.losses",
    {name: f"labelstack.networks.losses.{name}:{name}" for name in ("bce", "balanced_bce", "focal")},
)
