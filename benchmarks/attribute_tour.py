"""FashionAI's form from the generator to a registered ensemble, and what is gained by what: one command.

    python benchmarks/attribute_tour.py FOLDER            # 8 networks
    python benchmarks/attribute_tour.py FOLDER --small    # whether it runs
    python benchmarks/attribute_tour.py FOLDER --print    # the tables of a folder in which it has run

Copies the project into the folder, puts benchmarks/attribute_tour.yaml into its params.yaml, runs `dvc repro`, and
prints mAP (`m` rows dropped) and basic precision of every member, each on the rows that it knows, and paired
differences, all with 95 % intervals by bootstrap over images within attributes. `out of fold`: validation rows, which
no network learnt from; stackers and the blend are cross-fitted. `withheld`: test rows, whose labels nothing saw.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from tour_folder import HERE, run_tour

from labelstack.params import load_params
from labelstack.predictions import Predictions, answered, read_predictions
from labelstack.scoring.attribute_precision import (
    BASIC_PRECISION,
    MAP,
    AttributePrecision,
    letters_of,
    paired_precision,
)
from labelstack.scoring.metric import metric_of
from labelstack.stages.cross_fitted import cross_fitted_file
from labelstack.stages.fold_files import stacking_rows
from labelstack.stages.members import Member, everyone
from labelstack.stages.rows import Rows, label_table
from labelstack.stages.work.score_all import answered_rows

SMALL: dict[str, Any] = {"sample": {"n_train": 480, "n_test": 160, "image_size": 64, "label_noise": 0.03}}
PAIRS = [
    ("soft against hard", "lapel", "lapel_hard"),
    ("crop against whole", "lapel_closer", "lapel"),
    ("scales against one", "neckline_scales", "neckline"),
    ("separate against joint", "lapel", "joint"),
    ("separate against joint", "neckline", "joint"),
    ("separate against joint", "sleeve", "joint"),
    ("separate against joint", "skirt", "joint"),
]


def params_of(*, small: bool) -> dict[str, Any]:
    """The content of params.yaml: the default's with the tour's put in, sections of names whole."""
    content = yaml.safe_load((HERE.parent / "params.yaml").read_text(encoding="utf-8"))
    tour = yaml.safe_load((HERE / "attribute_tour.yaml").read_text(encoding="utf-8"))
    if small:
        tour |= SMALL
        for section in tour["models"].values():
            section["phases"] = [{"epochs": 1, "train": "head"}]
        for section in tour["second_round"].values():
            section["epochs"] = 1
    content.pop("metric")  # as is usual for the format
    for key, value in tour.items():
        whole = key in ("models", "second_round", "stackers", "thresholds") or not isinstance(value, dict)
        content[key] = value if whole else content[key] | value
    return content  # type: ignore[no-any-return]


def print_tables() -> None:
    """Scores of members, then differences, each out of fold and on withheld answers."""
    params, labels = load_params(), label_table()
    group = labels["group"].to_numpy(np.str_)
    test = answered_rows(labels)
    assert test is not None
    members = {member.name: member for member in everyone(params)}
    parts = {"out of fold": (stacking_rows(params), "oof"), "withheld": (test, "test")}
    said = {
        (part, name): of_member(member, rows, split, group)
        for part, (rows, split) in parts.items()
        for name, member in members.items()
    }
    print(f"{'member':<18}{'rows':>7}  {'mAP':<28}{'basic precision':<28}")
    for part in parts:
        print(part)
        for name in members:
            mine, P = said[part, name]
            scored = scores_of(mine, P, group)
            cells = "".join(f"{interval(scored, score):<28}" for score in (MAP, BASIC_PRECISION))
            print(f"  {name:<16}{len(mine):>7}  {cells}")
    print(f"\n{'difference of mAP':<26}{'of':<36}{'rows':>7}")
    pairs = [*PAIRS, *(("blend against member", "blend", name) for name in members if name != "blend")]
    for part in parts:
        print(part)
        for what, better, other in pairs:
            (a, P), (b, Q) = said[part, better], said[part, other]
            ids = np.intersect1d(a.row_id, b.row_id)
            rows = a.named(ids)
            place = np.isin(a.row_id, ids), np.isin(b.row_id, ids)
            found = paired_precision(scores_of(rows, P[place[0]], group), scores_of(rows, Q[place[1]], group), MAP)
            text = f"{found.score:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
            print(f"  {what:<24}{f'{better} - {other}':<36}{len(ids):>5}  {text}")


def of_member(member: Member, rows: Rows, split: str, group: NDArray[np.str_]) -> tuple[Rows, NDArray[np.float32]]:
    """The rows that a member knows, in their order, and its probabilities of them."""
    file = getattr(member, split)
    if member.kind == "blend" and split == "oof":  # its weights are chosen on these rows
        file = cross_fitted_file(member.cross_fitted, metric_of(load_params().metric))
    predictions: Predictions = read_predictions(file)
    rows = rows.where(np.isin(rows.row_id, predictions.image_id))
    P = predictions.rows_of(rows.row_id)
    shown = answered(P)
    return rows.where(shown), np.nan_to_num(P[shown])


def scores_of(rows: Rows, P: NDArray[np.float32], group: NDArray[np.str_]) -> AttributePrecision:
    """Of rows that know one attribute each; the blend's cross-fitted predictions are kept as counts of these."""
    if P.shape[1] != len(group):
        return AttributePrecision.of_counts(P)
    assert rows.known is not None
    assert rows.maybe is not None
    return AttributePrecision(letters_of(rows.Y, rows.maybe), P, rows.known, group)


def interval(scored: AttributePrecision, score: Any) -> str:
    """A score and its interval."""
    found = scored.interval(score)
    return f"{found.score:.4f} [{found.low:.4f}, {found.high:.4f}]"


if __name__ == "__main__":
    run_tour("attributes", params_of, print_tables)
