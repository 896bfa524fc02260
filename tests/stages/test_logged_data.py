"""What runs are said to have learned from: equal data has an equal name and digest, other data another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from labelstack.params import Params
from labelstack.stages.logged_data import stacking_data, training_data
from labelstack.stages.logged_data import test_data as data_of_test
from labelstack.stages.rows import Rows
from tiny import REPOSITORY


def made(row_id: NDArray[np.int64], Y: NDArray[np.bool_]) -> Rows:
    return Rows("train", row_id, row_id, Y)


ROWS = made(np.arange(10, dtype=np.int64), np.eye(10, 4, dtype=bool))
HELD = made(np.arange(10, 12, dtype=np.int64), np.ones((2, 4), dtype=bool))
NOTHING = made(np.zeros(0, np.int64), np.zeros((0, 4), bool))


def locked(train: str = "aaa.dir", manifest: str = "bbb") -> None:
    outs = [{"path": "data/images/train", "md5": train}, {"path": "data/manifest/train.parquet", "md5": manifest}]
    outs += [{"path": "data/manifest/labels.parquet", "md5": "ccc"}]
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": {"all": {"outs": outs}}}))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    locked()


def params(root: str = "data/mine") -> Params:
    content = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    return Params.model_validate(content | {"dataset": {"root": root, "answers": None}})


def test_train_and_its_hold_out() -> None:
    train, held = (one.to_dict() for one in training_data(params(), ROWS, HELD))
    assert (train["name"], train["context"]) == ("mine train", "train")
    assert (held["name"], held["context"]) == ("mine train (held out)", "validation")
    assert train["digest"] != held["digest"]
    assert json.loads(train["profile"]) == {"num_rows": 10, "images": 10, "labels": 4, "positives": 4}
    assert json.loads(held["profile"])["positives"] == 8
    source = json.loads(train["source"])
    assert source["uri"] == "data/images/train"
    assert source["md5"]["data/images/train"] == "aaa.dir"
    assert len(training_data(params(), ROWS, NOTHING)) == 1


def test_validation_and_test() -> None:
    assert stacking_data(params(), ROWS).context == "validation"
    seen = data_of_test(params(), ROWS.image_id)
    assert (seen.context, seen.counts) == ("test", {"images": 10})


def test_the_digest_changes_with_images_manifest_and_rows_alone() -> None:
    def digest(rows: Rows = ROWS, root: str = "data/mine") -> str:
        return training_data(params(root), rows, NOTHING)[0].digest

    before = digest()
    assert digest() == before
    assert digest(root="/elsewhere/mine") == before  # where the project's input lies decides nothing
    seen = {before, digest(made(ROWS.image_id[:9], ROWS.Y[:9]))}
    locked(train="other.dir")
    seen.add(digest())
    locked(manifest="other")
    seen.add(digest())
    Path("dvc.lock").unlink()
    seen.add(digest())
    assert len(seen) == 5


def test_names_show_no_folders_and_no_credentials() -> None:
    content = training_data(params("/home/somebody/private/mine"), ROWS, NOTHING)[0].to_dict()
    assert "somebody" not in json.dumps(content)
