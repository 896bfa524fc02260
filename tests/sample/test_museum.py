"""The generated museum objects: files as the competition's, and an annotator whose faults have the stated rates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from labelstack.formats.imet2019 import FORMAT
from labelstack.params.sample import SampleSection
from labelstack.sample import draw_museum
from labelstack.sample.museum import NAMES, NEAR, annotated, exhibit_of
from labelstack.support.errors import UserError

SMALL = SampleSection(n_train=90, n_test=20, image_size=32)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("museum") / "sample"
    draw_museum(root, SMALL, 3)
    return root


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_it_is_in_the_form_of_the_competition(drawn: Path) -> None:
    data = FORMAT.read(drawn)
    assert data.counts["images"] == {"train": 90, "test": 20, "validation": 0}
    assert set(data.labels["group"]) == {"culture", "tag"}
    names = data.manifests["train"]["name"]
    assert names.str.fullmatch(r"\d+").any()
    assert names.str.fullmatch(r"\d+e\d+").any()
    assert any(row != sorted(row) for row in data.manifests["train"]["label_id"])
    truth = FORMAT.answers(drawn / "test_answers.csv", data.labels)
    assert set(truth["image_id"]) == set(data.manifests["test"]["image_id"])
    assert truth["label_id"].map(len).between(3, 5).all()


def test_equal_seeds_give_equal_bytes_and_sizes_leave_other_objects_alone(drawn: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    draw_museum(again, SMALL, 3)
    assert files(again) == files(drawn)
    draw_museum(again, SampleSection(n_train=20, n_test=12, image_size=32), 3)
    for name, content in files(again).items():
        if name.endswith(".png"):
            assert files(drawn)[name] == content
    rows, more = (pd.read_csv(root / "train.csv", dtype=str).set_index("id") for root in (again, drawn))
    pd.testing.assert_frame_equal(rows.sort_index(), more.loc[rows.index].sort_index())


def test_the_annotator_errs_at_the_stated_rates() -> None:
    """Of 4,000 objects: each true label left out with 0.3, noted under its near-synonym with 0.1 where it has one."""
    rng = np.random.default_rng(0)
    truth = [exhibit_of(rng).labels() for _ in range(4000)]
    noted = [annotated(labels, 0.3, 0.1, rng) for labels in truth]
    assert min(map(len, noted)) >= 1
    near = {NAMES.index(one): NAMES.index(other) for one, other in NEAR.items()}
    both = list(zip(truth, noted, strict=True))
    alone = [(label in note) for labels, note in both for label in labels if label not in near]
    assert np.mean(alone) == pytest.approx(0.7, abs=0.02)
    pairs = [
        (label in note, near[label] in note)
        for labels, note in both
        for label in labels
        if label in near and near[label] not in labels
    ]
    assert np.mean(pairs, axis=0) == pytest.approx([0.7 * 0.9, 0.7 * 0.1], abs=0.02)
    assert annotated([4, 9], 0, 0, rng) in ([4, 9], [9, 4])


def test_it_replaces_nothing_but_a_generated_data_set(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UserError, match="it holds other files"):
        draw_museum(tmp_path, SMALL, 3)
