"""Tours on generated museum objects: every member, student and blend by cross-fitted F2 and on the withheld answers.

    python benchmarks/museum_tour.py members|losses [--small] [--keep FOLDER]

Each tour is the real `dvc repro` of benchmarks/museum_TOUR.yaml in a copy of the project: three models of three folds
each, and what is taught by them. ``--small`` draws few objects and learns for one epoch, to see that all of it runs.
Test answers are what the museum objects show; train rows are labelled by one annotator who leaves labels out.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from labelstack.params import Params, load_params
from labelstack.predictions import read_predictions
from labelstack.rehearsal.copy import copy_project, reproduce
from labelstack.scoring import bootstrap
from labelstack.scoring.metric import metric_of
from labelstack.stages.cross_fitted import read_cross_fitted
from labelstack.stages.fold_files import stacking_rows
from labelstack.stages.label_sets import label_sets, load_decision
from labelstack.stages.members import THE_BLEND, everyone
from labelstack.stages.rows import label_table
from labelstack.stages.work.score_all import read_test_answers

HERE = Path(__file__).resolve().parent
# Tour → rows that are compared: the first minus the second.
COMPARED = {
    "members": [("student", "small"), ("small_near", "small"), ("rank_mean", "mean")],
    "losses": [("forgiving", "bce"), ("very_forgiving", "bce"), ("pseudo", "bce")],
}


def small(content: dict[str, Any]) -> dict[str, Any]:
    """The same with few objects and an epoch of each network."""
    content["sample"] |= {"n_train": 120, "n_test": 60}
    for model in content["models"].values():
        model["epochs"] = 1
    return content


def label_sets_of(params: Params) -> tuple[dict[str, Any], dict[str, Any], Any, Any]:
    """Of every member: cross-fitted label sets of the stacking rows, label sets of the test rows; the truth of both."""
    metric, labels, rows = metric_of(params.metric), label_table(), stacking_rows(params)
    answers = read_test_answers(labels)
    assert answers is not None
    image_id, truth = answers
    members = everyone(params)
    fitted = {one.name: read_cross_fitted(one.cross_fitted, rows.row_id, metric) for one in members}
    test = {
        one.name: label_sets(params, read_predictions(one.test), load_decision(one.rule), image_id)[0]
        for one in members
    }
    return fitted, test, rows.Y, truth.astype(bool)


def tables(tour: str, params: Params) -> None:
    """Print what the tour made, from the outputs in the current folder."""
    metric = metric_of(params.metric)
    evaluation = json.loads(Path("metrics/evaluation.json").read_text())
    scores, weights = evaluation["scores"], json.loads(THE_BLEND.learnt.read_text())["weights"]
    fitted, test, Y, truth = label_sets_of(params)

    def told(truth: Any, given: Any) -> str:
        found = bootstrap.interval(metric, truth, given)
        return f"{found.score:.4f} [{found.low:.4f}, {found.high:.4f}]"

    table = pd.DataFrame(
        {
            "kind": row["kind"] + (", flattered" if row.get("flattered") else ""),
            "cross-fitted": told(Y, fitted[name]),
            "audit": f"{row.get(f'audit_{metric.key}', np.nan):.4f}",
            "test answers": told(truth, test[name]),
            "weight": f"{weights[name]:.3f}" if name in weights else "",
        }
        for name, row in scores.items()
    ).set_axis(list(scores))
    print(f"\n{metric.title} of {len(Y):,} train rows out of fold, {evaluation.get('n_audit', 0):,} audit rows and "
          f"{len(truth):,} test rows, 95 % intervals of a bootstrap over rows")  # fmt: skip
    print(table.to_string())

    single = [name for name, row in scores.items() if row["kind"] == "base model"]
    best = max(single, key=lambda name: scores[name][metric.cross_fitted])
    print("\nDifferences, paired over rows: cross-fitted; on test answers")
    for one, other in [("blend", best), *COMPARED[tour]]:
        apart = [bootstrap.paired(metric, Y, fitted[one], fitted[other])]
        apart.append(bootstrap.paired(metric, truth, test[one], test[other]))
        both = "; ".join(f"{found.score:+.4f} [{found.low:+.4f}, {found.high:+.4f}]" for found in apart)
        note = ", its cross-fitted score is flattered" if scores[one].get("flattered") else ""
        print(f"{one} - {other}: {both}{note}")

    rules = pd.DataFrame(evaluation["decisions"]).T[[metric.key, "low", "high", "gain", "gain_low", "gain_high"]]
    print("\nDecision rules on the cross-fitted blend; gain over the fixed threshold")
    print(rules.to_string(float_format="{:.4f}".format))
    for sentence in evaluation["caveats"]:
        print(sentence)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("tour", choices=list(COMPARED))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--keep", type=Path, help="an empty or new folder for the copy; default: a temporary one")
    asked = parser.parse_args()
    content = yaml.safe_load((HERE / f"museum_{asked.tour}.yaml").read_text())
    content = small(content) if asked.small else content
    with tempfile.TemporaryDirectory(prefix="museum-") as temporary:
        folder = (asked.keep or Path(temporary) / "tour").resolve()
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(HERE.parent)
        copy_project(HERE.parent, folder, content)
        started = time.monotonic()
        outcome = reproduce(folder, lambda stage: print(f"{time.monotonic() - started:6.0f} s  {stage}", flush=True))
        if outcome.message:
            raise SystemExit(outcome.message)
        counts = Counter(stage.partition("@")[0] for stage in outcome.stages)
        told = ", ".join(f"{n} {stage}" for stage, n in counts.items())
        print(f"{len(outcome.stages)} stages in {outcome.seconds:.0f} s on {os.cpu_count()} cores: {told}")
        os.chdir(folder)
        tables(asked.tour, load_params())


if __name__ == "__main__":
    main()
