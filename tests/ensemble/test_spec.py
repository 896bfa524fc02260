"""JSON of a version that is damaged or meant to hurt: a sentence with file and key, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ensemble.ensembles import files
from ensemble.records import WEIGHTS
from labelstack.ensemble import record
from labelstack.ensemble.folder import assemble_folder, read_spec
from labelstack.ensemble.image_sources import ImageSources
from labelstack.support.errors import UserError
from labelstack.support.storage import read_json

NAMES = ("ensemble.json", "labels.json", "blend.json", "thresholds.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assemble_folder(tmp_path / "ensemble", files(tmp_path / "parts", WEIGHTS))
    return tmp_path / "ensemble"


def write(file: Path, text: str) -> None:
    file.unlink()  # it is a hard link to the part
    file.write_bytes(text.encode("latin-1"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "brackets within brackets"),
        ('{"a":' * 100_000, "brackets within brackets"),
        ('{"weights": {"small": NaN}}', "NaN is no number"),
        ("[Infinity]", "Infinity is no number"),
        ("1" * 5000, "integer string conversion"),
        ("", "not valid JSON at line 1"),
        ("\xff", "not UTF-8"),
        ("null", "json: "),
        ("7", "json: "),
        ('{"weights": 1, "models": 2, "thresholds": 3}', "json: "),
        ("[]", "json: "),
    ],
)
def test_whatever_a_file_holds_is_a_sentence(folder: Path, name: str, text: str, said: str) -> None:
    write(folder / name, text)
    with pytest.raises(UserError, match=said) as refused:
        read_spec(folder)
    assert name in str(refused.value)


def changed(folder: Path, file: str, keys: str, value: Any) -> None:
    content = read_json(folder / file)
    *inner, last = [int(key) if key.isdigit() else key for key in keys.split(".")]
    at = content
    for key in inner:
        at = at[key]
    at[last] = value
    write(folder / file, json.dumps(content))


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("ensemble.json", "settings.batch_size", 0),
        ("ensemble.json", "settings.batch_size", "64"),
        ("ensemble.json", "settings.batch_size", 64.5),
        ("ensemble.json", "settings.batch_size", 10**9),
        ("ensemble.json", "settings.store_size", -1),
        ("ensemble.json", "settings.jpeg_quality", 101),
        ("ensemble.json", "settings.tta", "identity"),
        ("ensemble.json", "settings.tta", []),
        ("ensemble.json", "settings.task", "any"),
        ("ensemble.json", "settings.more", 1),
        ("ensemble.json", "models", {}),
        ("ensemble.json", "models.small", None),
        ("ensemble.json", "models.small.image_size", 0),
        ("ensemble.json", "models.small", {"networks": {}}),
        ("ensemble.json", "stackers", {"stack": 1}),
        ("labels.json", "0.label_id", "seven"),
        ("labels.json", "0", 7),
        ("blend.json", "weights.small", "much"),
        ("blend.json", "weights.small", -1),
        ("thresholds.json", "thresholds", [0.5]),
        ("thresholds.json", "decision", "all"),
    ],
)
def test_a_value_that_cannot_be_is_named(folder: Path, file: str, key: str, value: Any) -> None:
    changed(folder, file, key, value)
    with pytest.raises(UserError) as refused:
        read_spec(folder)
    assert file in str(refused.value)
    assert key.split(".")[0] in str(refused.value) or file == "labels.json"


def test_a_view_that_is_none_and_a_strange_stacker_are_told(folder: Path) -> None:
    changed(folder, "ensemble.json", "settings.tta", [{"no": "such key"}])
    with pytest.raises(UserError, match="a test-time view that is none"):
        read_spec(folder)
    changed(folder, "ensemble.json", "settings.tta", ["identity"])
    (folder / "stackers/stack/config.json").write_text("[1]")
    with pytest.raises(UserError, match="stacker stack"):
        read_spec(folder)


def test_fetch_settings_that_cannot_be_are_told() -> None:
    with pytest.raises(UserError, match=r"settings\.fetch.*\n.*concurrency"):
        ImageSources.from_settings({"concurrency": "all"})


@pytest.mark.parametrize("text", ["[" * 100_000, "[1]", '{"cpu": 1}', '{"rows": NaN}', ""])
def test_a_records_json_too(tmp_path: Path, text: str) -> None:
    (tmp_path / "record").mkdir()
    for name in ("machine", "submission"):
        (tmp_path / f"record/{name}.json").write_text(text)
    with pytest.raises(UserError, match=r"machine\.json"):
        record.read_machine(tmp_path)
    with pytest.raises(UserError, match=r"submission\.json"):
        record.read_submission(tmp_path)
    (tmp_path / "checksums.json").write_text(text)
    if text != '{"rows": NaN}':
        with pytest.raises(UserError, match=r"checksums\.json"):
            record.changes(tmp_path)
