"""``dataset.validation``: a validation split drawn from train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from labelstack.formats.format import format_for
from labelstack.formats.manifest import read_manifest
from labelstack.params import load_params
from labelstack.stages import ingest, paths
from labelstack.stages.settings import settings
from labelstack.support.errors import InputProblems, UserError
from tiny import REPOSITORY, merged

N = 60


def write(root: Path, split: str, n: int, labels: bool = True) -> None:
    content: dict[str, Any] = {"images": [{"image_id": i, "url": f"http://h/{split}/{i}"} for i in range(n)]}
    if labels:  # a frequent label and one of every sixth image
        content["annotations"] = [{"image_id": i, "label_id": [1, 2] if i % 6 == 0 else [1]} for i in range(n)]
    (root / f"{split}.json").write_text(json.dumps(content))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with train.json and test.json, and params.yaml for it."""
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    write(Path("mine"), "train", N)
    write(Path("mine"), "test", 5, labels=False)
    state()
    return tmp_path


def state(dataset: dict[str, Any] | None = None, **change: Any) -> None:
    """Write params.yaml: the shipped one with a share of a fifth."""
    shipped = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    own = {"root": "mine", "answers": None, "validation": 0.2} | (dataset or {})
    Path("params.yaml").write_text(yaml.safe_dump(merged(shipped, {"dataset": own, **change})))


def drawn() -> dict[str, list[int]]:
    ingest.run()
    return {split: read_manifest(paths.manifest(split))["image_id"].tolist() for split in paths.SPLITS}


def test_a_share_is_drawn_of_which_every_label_has_its_share(here: Path) -> None:
    ids = drawn()
    assert {split: len(of) for split, of in ids.items()} == {"train": 48, "validation": 12, "test": 5}
    assert sorted(ids["train"] + ids["validation"]) == list(range(N))
    assert ids["validation"] == sorted(ids["validation"])
    assert sum(i % 6 == 0 for i in ids["validation"]) == 2
    labels = pd.read_parquet(paths.LABELS)
    assert labels["n_train"].tolist() == [48, 8]
    assert labels["n_validation"].tolist() == [12, 2]
    np.testing.assert_allclose(labels["train_frequency"], [1, 8 / 48])
    counts = json.loads((paths.METRICS / "ingest.json").read_text())
    assert counts["images"] == {"train": 48, "validation": 12, "test": 5}
    assert counts["labels_per_image"] == {"train": round(56 / 48, 4), "validation": round(14 / 12, 4)}
    assert counts["drawn"] == ["validation"]
    assert set(counts["shared"]["urls"]) == {"train_validation", "train_test", "validation_test"}
    assert drawn() == ids
    state(seed=7)
    assert drawn()["validation"] != ids["validation"]


def test_what_belongs_together_is_drawn_together_and_keeps_its_group(here: Path) -> None:
    rows = "".join(f"{i},{i // 5}\n" for i in range(N - 5))  # the last five stand alone
    Path("mine/who.csv").write_text(f"id,group\n{rows}")
    state(folds={"group_by": "who.csv", "k": 2})
    ids = drawn()
    sides = [{i // 5 for i in ids[split] if i < N - 5} for split in ("train", "validation")]
    assert sides[0].isdisjoint(sides[1])
    beside = pd.read_parquet(paths.BESIDE)
    assert sorted(beside.loc[beside["split"] == "validation", "row_id"]) == ids["validation"]
    grouped = beside[beside["row_id"] < N - 5]
    assert grouped["group"].tolist() == [str(i // 5) for i in grouped["row_id"]]


def test_runs_of_the_data_set_are_drawn_whole(here: Path) -> None:
    state(folds={"group_by": {"blocks": 12}, "k": 2})
    ids = drawn()
    assert {i // 5 for i in ids["train"]}.isdisjoint({i // 5 for i in ids["validation"]})


def test_a_share_and_a_split_are_not_both_meant(here: Path) -> None:
    write(here / "mine", "validation", 9)
    with pytest.raises(InputProblems) as caught:
        ingest.run()
    assert caught.value.problems == [
        "validation.json: is there, and dataset.validation draws such a split from train: set it to 0, or move the "
        "file away"
    ]
    state({"validation": 0})
    assert len(drawn()["validation"]) == 9
    Path("mine/validation.json").unlink()
    with pytest.raises(InputProblems, match=r"validation\.json: expected this file, found none"):
        ingest.run()


def test_too_few_for_the_folds_are_refused(here: Path) -> None:
    state({"validation": 0.05})
    with pytest.raises(UserError, match=r"at least 5 images, one for each fold .*, drew 3 of 60 \(a share of 0.05\)"):
        ingest.run()
    assert not paths.manifest("train").exists()


def test_check_asks_for_no_file_of_a_split_that_is_drawn(here: Path) -> None:
    told = format_for(load_params().dataset).missing_files("mine")
    assert [line for line in told if "validation" in line] == []
    Path("mine/test.json").unlink()
    assert any(
        line.startswith("mine/test.json: missing") for line in format_for(load_params().dataset).missing_files("mine")
    )


def test_a_table_has_a_key_of_its_own(here: Path) -> None:
    state({"format": "table"})
    with pytest.raises(InputProblems, match=r"dataset.validation: must be 0: .* table.validation"):
        load_params()


def test_the_share_stands_among_what_ingest_depends_on(here: Path) -> None:
    assert settings(load_params())["dataset"]["validation"] == 0.2
