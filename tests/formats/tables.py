"""Small tables of images and labels, and how they are read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from labelstack.formats.format import CompetitionData, format_for
from labelstack.params.dataset import DatasetSection
from labelstack.params.folds import FoldsSection
from labelstack.stages.ingest import drawing
from labelstack.support.errors import InputProblems

SPLITS = """image,labels,split
a.jpg,cat;dog,train
b.jpg,dog,TRAIN
c/d.jpg,cat,val
e.jpg,,Test
http://h/1.jpg,cat,test
"""


def section(root: Path, task: str = "multi_label", **table: Any) -> DatasetSection:
    content = {"format": "table", "root": str(root), "task": task, "table": table}
    return DatasetSection.model_validate(content)


def put(root: Path, text: str | bytes, file: str = "labels.csv", images: Iterable[str] | None = None) -> Path:
    """Write a table, and an empty file for each image (those of ``SPLITS`` unless named)."""
    root.mkdir(parents=True, exist_ok=True)
    (root / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    for name in ("a.jpg", "b.jpg", "c/d.jpg", "e.jpg") if images is None else images:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def read(root: Path, task: str = "multi_label", folds: int = 1, by: Any = None, **table: Any) -> CompetitionData:
    """Read a table; ``by``: keys of the section ``folds``."""
    dataset, together = section(root, task, **table), FoldsSection.model_validate(by or {})
    return format_for(dataset, drawing(0, together), together).read(root, None, folds)


def problems_of(root: Path, task: str = "multi_label", folds: int = 1, by: Any = None, **table: Any) -> list[str]:
    with pytest.raises(InputProblems) as caught:
        read(root, task, folds, by, **table)
    return caught.value.problems


def named(data: CompetitionData) -> dict[str, dict[str, list[str] | None]]:
    """Split -> name of each image -> names of its labels."""
    label = data.labels.set_index("label_id")["name"]
    return {
        split: {
            name: None if labels is None else [label[i] for i in labels]
            for name, labels in zip(manifest["name"], manifest["label_id"], strict=True)
        }
        for split, manifest in data.manifests.items()
    }


def answered(data: CompetitionData) -> dict[str, list[str]]:
    """Name of each test image whose labels are known -> names of its labels."""
    label, test = data.labels.set_index("label_id")["name"], data.manifests["test"].set_index("image_id")["name"]
    assert data.answers is not None
    return {
        test[i]: [label[j] for j in row] for i, row in zip(data.answers.image_id, data.answers.label_id, strict=True)
    }
