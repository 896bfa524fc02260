"""What `labelstack bench` prints: its tables, how to read them, and what won."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from labelstack.params.second_level_file import SecondLevel
from labelstack.report.figures import plain
from labelstack.scoring import bootstrap
from labelstack.scoring.metric import Metric, family_name
from labelstack.stacking.array_checks import check_answers
from labelstack.stacking.bench.cubes import Cube
from labelstack.stacking.bench.process import BEST_MODEL, DEFAULT, Row, judge_of
from labelstack.support import storage
from labelstack.support.errors import UserError

_COSTS = ("fit s", "predict s", "peak MB", "× scikit-learn")


def finish(
    rows: Sequence[Row], data: Cube, settings: SecondLevel, *, source: str, origin: str, json: str | None = None
) -> dict[str, Any]:
    """Print tables and verdict, write and return the JSON; raise ``UserError`` when a method failed."""
    judge = judge_of(data, settings)
    n, n_models, n_labels = data.cube.shape
    n_test = 0 if data.test_cube is None else len(data.test_cube)
    test = f"{n_test:,} test images" if n_test else "no test pair"
    print(f"{source}: {n:,} images × {n_models} models × {n_labels} labels, {test}; ", end="")
    print(f"{settings.folds.k} folds, {judge.title}, second level: {origin}\n")
    print(f"Methods: {family_name(judge)} cross-fitted{' and on the test pair' if n_test else ''}")
    print(method_table(rows), *_notes({row.name: row for row in rows}, settings, judge), "", sep="\n")
    for row in rows:
        if "decisions" in row.details:
            print("Decisions on the default's probabilities; gain: paired, over fixed")
            table = pd.DataFrame(row.details["decisions"]).T
            print(table.to_string(float_format="{:.4f}".format), "", sep="\n")
    won, gains = verdict(rows, data, judge)
    content: dict[str, Any] = {"source": source, "params": origin, "shape": data.cube.shape, "cpus": os.cpu_count()}
    content |= {"settings": settings.model_dump(mode="json"), "rows": [row.to_dict() for row in rows]} | gains
    if json:
        storage.write_json(json, content)
    print(f"bench: {won} → {json or 'printed only; --json FILE keeps it'}", flush=True)
    failed = [f"{row.name} ({row.error})" for row in rows if row.error]
    if failed:
        raise UserError(f"bench: {len(failed)} of {len(rows)} methods failed: {'; '.join(failed)}")
    return content


def method_table(rows: Sequence[Row]) -> str:
    """One line for each method."""
    lines, names = [], []
    for row in rows:
        name = f"{row.name} ({row.details['note']})" if "note" in row.details else row.name
        names.append(plain(name, 40) + (": failed" if row.error else ""))
        costs = (row.fit_seconds, row.predict_seconds, row.peak_bytes and row.peak_bytes / 1e6, row.faster)
        line: dict[str, Any] = dict(zip(_COSTS, map(_number, costs), strict=True))
        bounds = {"95 % from": row.interval.low, "to": row.interval.high} if row.interval else {}
        lines.append(line | (row.cross_fitted or {}) | bounds | {f"test {n}": v for n, v in (row.test or {}).items()})
    return pd.DataFrame(lines, names).to_string(float_format="{:.4f}".format, na_rep="–")


def verdict(rows: Sequence[Row], data: Cube, judge: Metric) -> tuple[str, dict[str, Any]]:
    """What won by the cross-fitted score, and its paired gains on the best base model and the default, also as JSON."""
    scored = {row.name: row for row in rows if row.interval and row.labels is not None}
    if not scored:
        return "nothing was scored", {"winner": None, "gains": {}}
    winner = max(scored.values(), key=lambda row: row.interval.score)  # type: ignore[union-attr]
    score, low, high = winner.interval  # type: ignore[misc]
    text, gains = f"{winner.name} won, cross-fitted {judge.title} {score:.4f} [{low:.4f}, {high:.4f}]", {}
    for name in [name for name in (BEST_MODEL, DEFAULT) if name in scored and name != winner.name]:
        pair = (winner.labels, scored[name].labels)
        gain = bootstrap.paired(judge, check_answers(data.labels), *pair)  # type: ignore[arg-type]
        text += f", {gain.score:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] on {name}"
        gains[name] = gain._asdict()
    text += f", test {winner.test[judge.short]:.4f}" if winner.test else ""
    return text, {"winner": winner.name, "gains": gains}


def _notes(rows: Mapping[str, Row], settings: SecondLevel, judge: Metric) -> list[str]:
    nested = ", its nested fits too" if settings.folds.nested and settings.folds.k > 2 else ""
    whole = f"; default: everything{nested}" if DEFAULT in rows else ""
    notes = [
        f"fit: all {settings.folds.k} folds{whole}. predict: all fold models. "
        "peak: resident memory of a fresh process for each method, libraries and data included.",
        f"Every method decides by thresholds.strategy: {settings.thresholds.strategy}, chosen on the other folds; "
        f"95 % from … to: {judge.short}, bootstrap over images{' within groups' if judge.wants == 'counts' else ''}.",
    ]
    for found in (row.details for row in rows.values()):
        if "seconds_per_label" in found:
            each, some = f"{found['seconds_per_label']:.3g} s a label and fold", len(found["labels"])
            notes.append(f"MultiOutputRegressor: {each}, measured on {some} labels of one fold, × labels × folds.")
        if "weights" in found:
            weights = ", ".join(f"{plain(name, 40)} {weight:.2f}" for name, weight in found["weights"].items())
            notes.append(f"default: {weights}; decision: {found['strategy']}.")
        for name in ("plain_mean", "uncalibrated"):
            if f"{name}_gain" in found.get("worth", {}):
                gain, low, high = (found["worth"][f"{name}_gain{end}"] for end in ("", "_low", "_high"))
                told = f"{found['worth'][f'{name}_attribute_map']:.4f}; default {gain:+.4f} [{low:+.4f}, {high:+.4f}]"
                notes.append(f"the same members, {name.replace('_', ' ')}: mAP {told}.")
    return notes


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
