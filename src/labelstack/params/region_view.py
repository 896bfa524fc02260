"""`models.<name>.mask` and `.sees`: what a network is given of a region beside the pixels around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from labelstack.params.backbone_names import backbone_of
from labelstack.params.messages import dotted

if TYPE_CHECKING:
    from labelstack.params.models import ModelSection
    from labelstack.params.region_rows import RegionRowsSection

Mask = Literal["none", "channel", "grey"]
Sees = Literal["all", "region"]


class RegionView(NamedTuple):
    """What a network is given of a region's image.

    Attributes
    ----------
    mask : ``channel``: the mask is a fourth channel, 255 within; ``grey``: all but the region is 128
    sees : ``region``: the region's box with its margin is cut out, whatever is stored around it
    """

    mask: Mask = "none"
    sees: Sees = "all"

    @property
    def channels(self) -> int:
        """Of an image: red, green, blue, and the mask where it is one."""
        return 4 if self.mask == "channel" else 3


PLAIN = RegionView()


def mask_problems(model: ModelSection) -> Iterator[str]:
    """A sentence where a network's layers cannot take a mask, or would never learn to."""
    if model.mask != "channel":
        return
    if backbone_of(model.backbone).colours_only:
        yield f"mask: {model.backbone} measures colours and takes no fourth channel: use mask: grey, or none"
    if model.phases and all(phase.train != "all" for phase in model.phases):
        yield (
            "mask: a channel is learned by the first layers, which no phase trains, so that it would count nothing: "
            "let a phase train all, or use mask: grey"
        )


def region_view_problems(
    models: Mapping[str, ModelSection], region_rows: Mapping[str, RegionRowsSection]
) -> Iterator[str]:
    """A sentence for each model that is to see of regions what is not stored with the rows."""
    rows = next(iter(region_rows.values()), None)
    for name, model in models.items():
        for one in dict.fromkeys([model.region_view, *_of_folds(model)]):
            for key, value in one._asdict().items():
                place = f"{dotted(('models', name))}.{key}: {value}"
                if value == RegionView._field_defaults[key]:
                    continue
                if rows is None:
                    yield f"{place} is for rows that are regions, and there is no region_rows: leave it out"
                elif rows.mask != "stored":
                    kept = dotted(("region_rows", next(iter(region_rows))))
                    yield f"{place} needs what {kept}.mask: stored keeps beside the pixels, and it is {rows.mask}"


def _of_folds(model: ModelSection) -> Iterator[RegionView]:
    for own in model.by_fold.values():
        mask, sees = own.get("mask", model.mask), own.get("sees", model.sees)
        if isinstance(mask, str) and isinstance(sees, str):  # what else it is, of_fold tells
            yield RegionView(mask, sees)  # type: ignore[arg-type]
