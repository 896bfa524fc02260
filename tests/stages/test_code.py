"""Digests of code that are kept between stages: only ever those of the code that runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labelstack.stages import code, paths
from labelstack.support.closure import sources
from tiny import Workspace


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_was_kept_of_this_very_source_is_read(here: Path) -> None:
    code.keep({("blend",): "0" * 16, ("train", "small_cnn", "bce"): "1" * 16})
    assert code.kept_code_digest("blend") == "0" * 16
    assert code.kept_code_digest("train", "small_cnn", "bce") == "1" * 16
    assert code.kept_code_digest("train", "pixels", "bce") == code.code_digest("train", "pixels", "bce")


@pytest.mark.parametrize(
    "text",
    [
        '{"source": "of another day", "digests": {"blend": "0000000000000000"}}',
        '{"source": "%s", "digests": 3}',
        '{"source": "%s"}',
        "[]",
        "{",
        "",
        "\x00",
    ],
)
def test_anything_else_is_made_anew(here: Path, text: str) -> None:
    paths.CODE.parent.mkdir(parents=True)
    paths.CODE.write_text(text.replace("%s", sources().bytes_digest))
    assert code.kept_code_digest("blend") == code.code_digest("blend")


def test_nothing_is_written_by_who_only_asks(here: Path) -> None:
    code.kept_code_digest("blend")
    assert list(here.iterdir()) == []


def test_the_first_stage_keeps_what_the_others_ask_for(finished: Workspace) -> None:
    kept = json.loads((finished.root / paths.CODE).read_text())
    assert kept["source"] == sources().bytes_digest
    assert {"train small_cnn bce", "predict small_resnet", "stack cnn", "stack xgboost", "blend"} <= set(
        kept["digests"]
    )
    for name, digest in kept["digests"].items():
        assert code.code_digest(*name.split()) == digest
