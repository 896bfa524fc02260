"""How many groups of layers a network has, known before it is built: those of ``networks.depth.layer_groups``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from labelstack.params.fine_tuning import last_groups

_PUBLISHED = (
    "densenet201", "inception_v3", "inception_resnet_v2", "resnet50", "nasnet", "xception", "resnet152_v2", "mobilenet",
    "mobilenet_v2", "densenet121", "efficientnet_b0", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2",
    "resnet34", "resnet50_v1", "resnet152_v1", "se_resnext50", "se_resnext101", "densenet161", "inception_v4",
    "pnasnet5_large", "cbam_resnet50", "gluon_resnet152_v2",
)  # fmt: skip
# Backbone → its groups with the options' defaults.
_GROUPS = dict.fromkeys(_PUBLISHED, 5) | {"descriptors": 0, "pixels": 1, "silhouette_pixels": 2}
# Backbone → how many groups fewer than entries of ``filters`` it has, each of which halves the map, and their default.
_HALVINGS = {"small_cnn": (1, 4), "small_resnet": (1, 4), "silhouette": (0, 3)}


class GroupCount(NamedTuple):
    """Groups of a network, the head not counted; not ``exact``: at most so many."""

    n: int
    exact: bool = True


def group_count(backbone: str, options: Mapping[str, Any]) -> GroupCount | None:
    """How many groups of layers a backbone has with these options; None where only its layers tell, as of plug-ins."""
    if backbone in _HALVINGS:
        fewer, usual = _HALVINGS[backbone]
        filters = options.get("filters")
        return GroupCount(max(1, (len(filters) if isinstance(filters, list) else usual) - fewer))
    n = _GROUPS.get(backbone)
    if backbone == "silhouette_pixels" and "centre" in options:  # the maps of its branches change sizes in turns
        return None
    return None if n is None else GroupCount(n, exact=not options.get("until"))


def group_problems(
    backbone: str, options: Mapping[str, Any], trained: Sequence[str], rates: float | tuple[float, ...]
) -> Iterator[str]:
    """A sentence for each key that names other groups of layers than a network has.

    Parameters
    ----------
    trained : ``train`` of each phase
    rates : ``group_rates``
    """
    count = group_count(backbone, options)
    if count is None:
        return
    n, has = count.n + 1, "has" if count.exact else "has at most"
    for place, train in enumerate(trained):
        asked = last_groups(train)
        if asked is not None and asked > n:
            yield (
                f"phases.{place}: {train} asks for {asked} groups of layers, and {backbone} {has} {n}, head included: "
                f"name at most last_{n}, or all"
            )
    if isinstance(rates, tuple) and (len(rates) > n or (count.exact and len(rates) < n)):
        yield (
            f"group_rates: names {len(rates)} factors, and {backbone} {has} {n} groups of layers, head included: "
            "name one for each, from the first to the head, or a single factor"
        )
