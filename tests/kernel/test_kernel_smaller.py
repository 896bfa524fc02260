"""Smaller blends of a kernel: fitted out of fold where the pipeline ran, and taken where time is short."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kernel.running import run_alone
from labelstack.commands import kernel_steps
from labelstack.ensemble.folder import read_spec
from labelstack.ensemble.recompute import Members
from labelstack.kernel.smaller import first_views, read_smaller
from labelstack.params import load_params
from labelstack.predictions import read_predictions
from labelstack.stacking.deciding.decisions import Decision
from labelstack.stages.fold_files import read_stacking
from tiny import Workspace

pytestmark = [pytest.mark.long, pytest.mark.slow]


def test_smaller_blends_are_fitted_and_taken_when_time_is_short(
    copied: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, weights = tmp_path / "kernel.py", tmp_path / "kernel_weights"
    copied.run("labelstack", "kernel", "@candidate", "--out", str(script), "--smaller")
    steps = json.loads((weights / "steps.json").read_text())["steps"]
    spec = read_spec(weights)
    assert len(steps) == 1 + len(spec.views) - 1  # one view; then a base model less
    assert set(steps[0]["weights"]) == set(spec.blended)
    (least,) = steps[-1]["weights"]
    assert least in spec.views

    test = copied.root / "data/sample/images/test"
    options = ("--input", str(weights), "--test", str(test), "--hours", "9", "--out")
    done = run_alone(script, tmp_path / "site", *options, str(tmp_path / "whole.csv"))
    assert done.returncode == 0, done.stderr
    assert "all networks and views within the time" in done.stdout
    assert (tmp_path / "whole.csv").read_bytes() == copied.submission()

    done = run_alone(script, tmp_path / "site", *options, str(tmp_path / "least.csv"), faster=1e6)
    assert done.returncode == 0, done.stderr
    gone = [name for name in [*spec.views, *spec.needed_stackers] if name != least]
    assert f"the first test-time view of each network alone, without {', '.join(gone)};" in done.stdout
    expected = answers_of(weights, least, steps[-1], copied.root / "data/images/test")
    written = pd.read_csv(tmp_path / "least.csv", keep_default_na=False)
    assert {row.iloc[0]: str(row.iloc[1]) for _, row in written.iterrows()} == expected

    monkeypatch.chdir(copied.root)
    params = load_params()
    stacking = read_stacking(params)
    members = Members.of(weights, spec)
    oof = {name: kernel_steps._one_view(members, spec, stacking, name) for name in spec.views}
    for name, found in oof.items():  # with all views it is what the pipeline predicted
        there = read_predictions(Path("data/predictions") / name / "oof.npy").rows_of(stacking.rows.row_id)
        assert found.tobytes() == there.tobytes()
    cube = np.stack(list(oof.values()), axis=1)
    for name in spec.needed_stackers:
        (there,) = Path("data").rglob(f"{name}/oof.npy")
        found = kernel_steps._stacked(weights, name, cube, stacking.folds)
        np.testing.assert_allclose(found, read_predictions(there).rows_of(stacking.rows.row_id), atol=1e-6)
    smaller = read_smaller(weights, spec)
    assert [one.needed_stackers for one in smaller.specs[1:]] == [[]] * (len(steps) - 1)
    assert all(len(one.tta(view)) == 1 for one in smaller.specs for net in one.views.values() for view in net.values())
    assert first_views(spec).weights == spec.weights


def answers_of(weights: Path, name: str, step: dict, shards: Path) -> dict[int, str]:
    """Label ids of each test image by one network without its mirror image."""
    from labelstack.images.loader import evaluation_batches
    from labelstack.networks.inference import compile_predict, load_model

    described = json.loads((weights / "ensemble.json").read_text())
    view = described["models"][name]
    forward = compile_predict(load_model(weights / "members" / name / "model.keras"))
    batch = described["settings"]["batch_size"]
    label_id = np.array([entry["label_id"] for entry in json.loads((weights / "labels.json").read_text())])
    given: dict[int, str] = {}
    for shard in sorted(shards.glob("shard-*.parquet")):
        for ids, images in evaluation_batches(shard, None, view["image_size"], batch, view["resize"]):
            chosen = Decision.from_dict(step["decision"]).decide(forward(images))
            given |= {int(i): " ".join(map(str, label_id[row])) for i, row in zip(ids, chosen, strict=True)}
    return given
