"""What the report says of rows that know one label group each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labelstack.images.heat_table import read_heat
from labelstack.images.shards.shard_files import images_by_id
from labelstack.images.view_table import read_view
from labelstack.params import Params
from labelstack.predictions import answered
from labelstack.report.attribute_tables import Attribute, Cropped, Mistake, cropped
from labelstack.scoring.attribute_precision import AttributePrecision, letters_of
from labelstack.stages import paths
from labelstack.stages.members import view_file
from labelstack.stages.rows import Rows

if TYPE_CHECKING:
    import pandas as pd

MISTAKES, CROPS = 6, 6


def attributes(rows: Rows, P: NDArray[np.float32], labels: pd.DataFrame, called: dict[int, str]) -> list[Attribute]:
    """Scores, confusions and the most confident mistakes of every label group that rows know.

    Parameters
    ----------
    P : float [n, n_labels], probabilities of whoever is shown; within a group their shares count
    called : what images are called, by id, where they have names
    """
    shown = answered(P)
    rows, P = rows.where(shown), np.nan_to_num(P[shown])
    if rows.known is None or rows.maybe is None or not len(rows):
        return []
    group = labels["group"].to_numpy(np.str_)
    scored = AttributePrecision(letters_of(rows.Y, rows.maybe), P, rows.known, group)
    precision = dict(zip(scored.groups, scored.of_groups().tolist(), strict=True))
    found = []
    for name in scored.groups:
        mine, columns = np.flatnonzero(rows.known == name), np.flatnonzero(group == name)
        values = [label.partition("::")[2] or label for label in labels["name"].iloc[columns]]
        of_group = P[np.ix_(mine, columns)].astype(np.float64)
        share = of_group / np.maximum(of_group.sum(axis=1, keepdims=True), 1e-30)
        true, given = rows.Y[np.ix_(mine, columns)].argmax(axis=1), share.argmax(axis=1)
        counts = np.zeros((len(columns), len(columns)), np.int64)
        np.add.at(counts, (true, given), 1)
        doubted = rows.maybe[np.ix_(mine, columns)].any(axis=1)
        right, sure = true == given, share.max(axis=1)
        wrong = np.flatnonzero(~right)
        wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:MISTAKES]
        jpegs = images_by_id(paths.shards(rows.split), rows.image_id[mine[wrong]])
        ids = rows.image_id[mine[wrong]].tolist()
        mistakes = [
            Mistake(called.get(i, f"#{i}"), jpegs[i], values[true[row]], values[given[row]], float(sure[row]))
            for i, row in zip(ids, wrong.tolist(), strict=True)
        ]
        of_doubted = float(right[doubted].mean()) if doubted.any() else None
        found.append(
            Attribute(
                name, values, len(mine), float(right.mean()), precision[name], int(doubted.sum()), of_doubted, counts,
                mistakes,
            )
        )  # fmt: skip
    return found


def crops(params: Params, rows: Rows, called: dict[int, str]) -> list[Cropped]:
    """The first images of the rows that each second-round model sees a part of, with their boxes and heat."""
    found = []
    for name in params.second_round:
        file = view_file(name)
        boxes = read_view(file, rows.split) if file.exists() else {}
        heat = read_heat(paths.found_heat(name))
        ids = [i for i in rows.image_id.tolist() if i in boxes][:CROPS]
        jpegs = images_by_id(paths.shards(rows.split), np.array(ids, np.int64))
        found += [cropped(name, called.get(i, f"#{i}"), jpegs[i], boxes[i], heat.get(i)) for i in ids]
    return found
