from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from labelstack.support.errors import UserError
from labelstack.tracking.run_file import read_run_json, write_run_json
from labelstack.tracking.runs import Tracker


def test_everything_is_there_without_the_store(tracker: Tracker, tmp_path: Path) -> None:
    path = tmp_path / "models" / "run.json"
    with tracker.run("train", "m", params={"a": 1}, tags={"dvc.data/x": "ab", "params.digest": "d1"}) as run:
        run.log_metrics({"f1": 0.5, "undefined": math.nan})
        write_run_json(path, run, {"seconds": 3}, extra={"weights_digest": "ff"})
    content = read_run_json(path)
    assert content["run_id"] == run.run_id
    assert content["name"] == "train/m"
    assert content["experiment"] == "labelstack"
    assert content["tracking_uri"] == "sqlite:///mlflow.db"
    assert content["metrics"] == {"f1": 0.5, "seconds": 3.0, "undefined": None}
    assert content["tags"]["dvc.data/x"] == "ab"
    assert content["params_digest"] == "d1"
    assert content["weights_digest"] == "ff"
    assert str(tracker.root) not in path.read_text()


def test_extra_may_not_hide_keys(tracker: Tracker, tmp_path: Path) -> None:
    with tracker.run("train", "m") as run, pytest.raises(ValueError, match="run_id"):
        write_run_json(tmp_path / "run.json", run, extra={"run_id": "x"})
    assert not (tmp_path / "run.json").exists()


@pytest.mark.parametrize(("content", "text"), [({"run_id": "x"}, "lacks name"), ([1], "JSON object")])
def test_other_files_are_refused(content: object, text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=text):
        read_run_json(tmp_path / "run.json")
