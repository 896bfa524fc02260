"""A small data set in the flagship's form, and ways to spoil it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labelstack.formats import imaterialist2018
from labelstack.support.errors import InputProblems

GOOD: dict[str, Any] = {
    "train": {
        "images": [{"image_id": "2", "url": ["http://a/2.jpg"]}, {"image_id": 1, "url": "http://a/ü.jpg"}],
        "annotations": [{"image_id": 1, "label_id": ["7", 3, "0003"]}, {"image_id": "2", "label_id": ["3"]}],
    },
    "validation": {
        "images": [{"image_id": 1, "url": ["http://b/1.jpg", "http://c/1.jpg"]}, {"image_id": 3, "url": "http://b/3"}],
        "annotations": [{"image_id": 1, "label_id": []}, {"image_id": 3, "label_id": ["3"]}],
    },
    "test": {"images": [{"image_id": 9, "url": "s3://b/9"}, {"image_id": "04", "url": ["file:x/4.jpg"]}], "info": {}},
}


def write(root: Path, content: dict[str, Any], labels: str | None = None) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for split, value in content.items():
        (root / f"{split}.json").write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    if labels is not None:
        (root / "labels.csv").write_text(labels, encoding="utf-8")
    return root


def problems_of(root: Path, label_ids: tuple[int, int] | None = None, folds: int = 0) -> list[str]:
    with pytest.raises(InputProblems) as caught:
        imaterialist2018.read(root, label_ids, folds)
    return caught.value.problems


def respelled(content: Any, names: dict[str, str]) -> Any:
    """Any JSON with some keys called otherwise."""
    if isinstance(content, dict):
        return {names.get(key, key): respelled(value, names) for key, value in content.items()}
    return [respelled(value, names) for value in content] if isinstance(content, list) else content


def with_change(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    content = json.loads(json.dumps(GOOD))
    change(content)
    return content
