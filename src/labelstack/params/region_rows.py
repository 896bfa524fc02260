"""`region_rows`: regions of photos as rows, whose labels are attributes, and what of these is handed in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from labelstack.params.dataset import INSTANCES, PHOTOS, ROWS, DatasetSection
from labelstack.params.folds import BlocksSection, FoldsSection
from labelstack.params.messages import dotted, name_fault
from labelstack.params.section import Section

PHOTO = "photo"


def parsed_context(value: Any) -> Any:
    """A share as a float, or ``photo``; raise ``ValueError`` when it is neither."""
    if value == PHOTO:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 10:
        return float(value)
    raise ValueError(f"must be {PHOTO}, or a share of the box's sides from 0 to 10, not {value!r}")


Context = Annotated[float | Literal["photo"], BeforeValidator(parsed_context)]


class RegionRowsSection(Section):
    """`region_rows.<name>`: what is cut out of photos, what is learned from, which masks are handed in."""

    margin: float = Field(0.1, ge=0, le=10)
    background: Literal["keep", "grey"] = "keep"
    mask: Literal["none", "stored"] = "none"
    context: Context = 0.0
    match: float = Field(0.5, ge=0.5, le=0.95)
    fewest: int = Field(1, ge=1, le=1_000_000)
    learn_from: Literal["all", "with_attributes"] = "all"
    size: int = Field(512, ge=16, le=4096)
    attributes: Literal["where_they_gain", "never", "as_decided"] = "where_they_gain"


def region_row_problems(
    region_rows: Mapping[str, RegionRowsSection],
    dataset: DatasetSection,
    folds: FoldsSection,
    *,
    by_fold: bool,
    found: bool,
) -> Iterator[str]:
    """A sentence for each thing that does not fit rows that are regions, or photos that are rows.

    Parameters
    ----------
    by_fold : whether ``base_models`` are folds
    found : whether there are ``regions``
    """
    if not region_rows:
        if dataset.into != ROWS:
            yield f"dataset.into: without region_rows photos are the rows, which lie in {ROWS}: set it to {ROWS}"
        return
    name = next(iter(region_rows))
    place = dotted(("region_rows", name))
    if len(region_rows) > 1:
        yield f"region_rows: one section says how regions become rows, and there are {', '.join(region_rows)}"
    if fault := name_fault(name):
        yield f"{place}: {fault}"
    section = region_rows[name]
    if section.context != 0 and section.mask != "stored":
        yield f"{place}.context: goes with mask: stored, without which no network knows which part of it is the region"
    if section.context != 0 and section.background == "grey":
        yield f"{place}.background: grey hides context: keep it, and set models.<name>.mask to grey where it is to be"
    if not found:
        yield f"{place}: comes of regions, and there are none: add segmenters and regions, or leave region_rows out"
    if dataset.format != INSTANCES:
        yield f"{place}: regions are learned from masks, which the format {INSTANCES} has, and this is {dataset.format}"
    elif dataset.instances.labels != "attributes":
        yield (
            f"{place}: labels of regions are attributes: set dataset.instances.labels to attributes, "
            f"not {dataset.instances.labels}"
        )
    if dataset.into != PHOTOS:
        yield f"dataset.into: with region_rows {ROWS} holds the regions: set it to {PHOTOS}, where photos lie then"
    if not by_fold:
        yield f"{place}: a region is predicted by networks of another fold: set base_models to the folds' numbers"
    if dataset.audit:
        yield "dataset.audit: with region_rows the validation photos are the audit: set it to 0"
    if dataset.corrections is not None:
        yield (
            "dataset.corrections: changes labels of whole photos, and with region_rows attributes are learned from the "
            "instances of the file of masks: mend that file, and set corrections to null"
        )
    if isinstance(folds.group_by, BlocksSection):
        yield "folds.group_by: blocks are runs of rows, and regions of a photo go together: name a column or a file"
    if folds.method != "iterative" or folds.rare:
        yield "folds: those of regions are those of their photos: set folds.method to iterative and folds.rare to 0"
