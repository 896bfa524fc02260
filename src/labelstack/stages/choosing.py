"""What the second level chooses by: the metric, the rules there are, the labels' groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labelstack.params import Params
from labelstack.scoring.attribute_rows import AttributeRows
from labelstack.stages.rows import Rows

if TYPE_CHECKING:
    import pandas as pd


def choices(params: Params, labels: pd.DataFrame, rows: Rows) -> dict[str, Any]:
    """What decision rules are chosen by: metric, thresholds, the labels' groups and which of them each row knows."""
    by = {"metric": params.metric, "thresholds": params.thresholds}
    return by | {"groups": labels["group"].tolist(), "asked": asked_of(rows, labels)}


def asked_of(rows: Rows, labels: pd.DataFrame) -> AttributeRows | None:
    """The label group that each row knows, by the label table; None where rows know all labels."""
    return None if rows.known is None else AttributeRows.of(labels["group"].tolist(), rows.known, rows.maybe)
