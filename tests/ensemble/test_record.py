"""What is kept with a registered ensemble, and whether every change of a file is seen."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.ensembles import files
from ensemble.records import WEIGHTS, record
from labelstack.ensemble import machine as machines
from labelstack.ensemble.folder import assemble_folder, read_spec
from labelstack.ensemble.machine import differences, machine, source_digest
from labelstack.ensemble.record import (
    CHECKSUMS,
    FOLDER,
    Record,
    changes,
    files_digest,
    has_record,
    predictions_file,
    read_machine,
    read_probe,
    read_submission,
    read_test_id,
    read_test_name,
    write_record,
)
from labelstack.predictions import read_predictions
from labelstack.scoring.scored import read_scored
from labelstack.support.errors import InputProblems, UserError
from labelstack.support.storage import read_json

NAMES = ["small", "large", "stack", "blend"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An ensemble's folder with a record."""
    parts = dataclasses.replace(files(tmp_path / "parts", WEIGHTS), record=record(tmp_path))
    assemble_folder(tmp_path / "ensemble", parts)
    return tmp_path / "ensemble"


def everything(folder: Path) -> Record:
    """What each part's own reader gives."""
    place = folder / FOLDER
    return Record(
        read_probe(folder),
        {name: read_predictions(predictions_file(folder, name)) for name in NAMES},
        read_scored(place / "scored.npz"),
        read_json(place / "evaluation.json"),
        place / "labels.parquet",
        read_test_id(folder),
        read_submission(folder),
        read_machine(folder),
    )


def test_names_of_test_images_are_kept_where_there_are_such(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a file with columns image_id, name"):
        read_test_name(folder)
    named = record(tmp_path, test_id=np.arange(2), test_name=["a b.jpg", "ü"])
    write_record(tmp_path / "named", named)
    assert read_test_name(tmp_path / "named") == ["a b.jpg", "ü"]
    assert read_test_id(tmp_path / "named").tolist() == [0, 1]


def test_what_is_written_is_read_again(folder: Path, tmp_path: Path) -> None:
    wanted, found = record(tmp_path), everything(folder)
    assert found.probe.jpeg == wanted.probe.jpeg
    assert found.probe.batch.tolist() == [0, 0, 0, 1, 1]
    assert found.test_id.tolist() == wanted.test_id.tolist()
    assert found.scored.digest == wanted.scored.digest
    assert list(found.scored.chosen) == NAMES
    for name in NAMES:
        assert found.predictions[name].image_id.tolist() == wanted.predictions[name].image_id.tolist()
        assert found.predictions[name].probability.tobytes() == wanted.predictions[name].probability.tobytes()
    assert (found.evaluation, found.submission, found.machine) == (
        wanted.evaluation,
        wanted.submission,
        wanted.machine,
    )
    assert found.labels.read_bytes() == wanted.labels.read_bytes()


def test_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_record(tmp_path / name, record(tmp_path))
    written = [file for file in (tmp_path / "a").rglob("*") if file.is_file()]
    assert len(written) == 11
    for file in written:
        assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()


def test_checksums_are_those_of_every_other_file(folder: Path) -> None:
    sums = json.loads((folder / CHECKSUMS).read_text())
    there = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    assert set(sums) == set(there) - {CHECKSUMS}
    assert {"ensemble.json", "members/small/model.keras", "record/predictions/stack.npy"} <= set(sums)
    assert sums == {name: hashlib.sha256(there[name].read_bytes()).hexdigest() for name in sums}
    assert files_digest(folder) == hashlib.sha256((folder / CHECKSUMS).read_bytes()).hexdigest()


def test_every_change_of_a_file_is_seen(folder: Path) -> None:
    assert changes(folder) == type(changes(folder))([], [], [])
    digest = files_digest(folder)
    model = folder / "members/small/model.keras"
    model.unlink()  # a hard link of the part
    model.write_bytes(b"smalm")
    (folder / "record/test.parquet").unlink()
    (folder / "record/note.txt").write_text("hello")
    found = changes(folder)
    assert found.changed == ["members/small/model.keras"]
    assert found.missing == ["record/test.parquet"]
    assert found.extra == ["record/note.txt"]
    assert files_digest(folder) == digest


def test_an_ensemble_without_a_record_has_checksums_and_can_be_read(tmp_path: Path) -> None:
    assemble_folder(tmp_path / "ensemble", files(tmp_path / "parts", WEIGHTS))
    assert not has_record(tmp_path / "ensemble")
    assert changes(tmp_path / "ensemble").changed == []
    assert read_spec(tmp_path / "ensemble").blended == WEIGHTS


def test_an_ensemble_of_before_has_neither(folder: Path) -> None:
    (folder / CHECKSUMS).unlink()
    assert read_spec(folder).blended == WEIGHTS
    with pytest.raises(UserError, match=r"checksums\.json: not found"):
        changes(folder)


def test_a_label_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    kept = dataclasses.replace(record(tmp_path), labels=tmp_path / "nowhere.parquet")
    with pytest.raises(InputProblems, match=r"nowhere\.parquet: not found"):
        assemble_folder(tmp_path / "e", dataclasses.replace(files(tmp_path / "parts", WEIGHTS), record=kept))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("probe.parquet", b"no parquet"),
        ("probe.parquet", None),
        ("test.parquet", b""),
        ("machine.json", b'["x"]'),
        ("machine.json", b'{"cpu": 3}'),
        ("submission.json", b'{"filename": "s.csv"}'),
        ("submission.json", b"[1]"),
        ("submission.json", b'{"filename": "s", "sha256": "0", "rows": 1, "not_downloaded": 0, "header": ["id"]}'),
        ("submission.json", b'{"filename": "s", "sha256": "0", "rows": 1, "not_downloaded": 0, "header": [1, 2]}'),
        ("scored.npz", b"x"),
        ("predictions/stack.npy", b"x"),
        ("evaluation.json", None),
    ],
)
def test_a_damaged_file_is_named(folder: Path, name: str, content: bytes | None) -> None:
    file = folder / "record" / name
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=Path(name).name):
        everything(folder)


def test_a_probe_of_other_columns_is_refused(folder: Path) -> None:
    probe = folder / "record/probe.parquet"
    probe.write_bytes((folder / "record/test.parquet").read_bytes())
    with pytest.raises(UserError, match="columns image_id, bytes, batch"):
        read_probe(folder)


def test_parts_are_read_one_by_one(folder: Path) -> None:
    assert read_test_id(folder).tolist() == list(range(100, 107))
    assert read_submission(folder)["filename"] == "s.csv"
    assert read_machine(folder)["cpu"] == "a"
    assert predictions_file(folder, "stack").is_file()


def test_a_version_without_a_recorded_header_has_the_first_one(folder: Path) -> None:
    file = folder / "record/submission.json"
    file.write_text('{"filename": "s.csv", "sha256": "0", "rows": 7, "not_downloaded": 1}')
    assert read_submission(folder)["header"] == ["id", "predicted"]


def test_checksums_must_be_texts(folder: Path) -> None:
    (folder / CHECKSUMS).write_text('{"ensemble.json": 1}')
    with pytest.raises(UserError, match="SHA-256"):
        changes(folder)


def test_this_machine_is_described() -> None:
    here = machine()
    assert here["architecture"] == platform.machine()
    assert here["python"] == platform.python_version()
    assert here["numpy"] == np.__version__
    assert {"cpu", "flags", "gpu", "tensorflow", "xgboost", "scikit-learn", "labelstack", "code"} <= set(here)
    assert all(isinstance(value, str) and value for value in here.values())
    assert differences(here, here) == []


def test_a_processor_list_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = tmp_path / "cpuinfo", tmp_path / "gpus" / "0"
    gpu.mkdir(parents=True)
    (gpu / "information").write_text("Model: \t H100\nIRQ: 3\n")
    monkeypatch.setattr(machines, "_CPU", cpu)
    monkeypatch.setattr(machines, "_GPUS", tmp_path / "gpus")
    without = machine()
    assert without["flags"] == "unknown"
    cpu.write_text("processor : 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: sse avx\n\nmodel name : other\n")
    first = machine()
    assert (first["cpu"], first["gpu"]) == ("Some CPU @ 2 GHz", "H100")
    cpu.write_text("model name : Some CPU @ 2 GHz\nflags : avx sse\n")
    assert machine()["flags"] == first["flags"]
    cpu.write_text("model name : Some CPU @ 2 GHz\nflags : avx sse avx512f\n")
    assert [text.split()[0] for text in differences(first, machine())] == ["flags"]


@given(
    st.dictionaries(st.sampled_from(["cpu", "numpy", "keras", "code"]), st.sampled_from(["1", "2"])),
    st.dictionaries(st.sampled_from(["cpu", "numpy", "keras", "code"]), st.sampled_from(["1", "2"])),
)
def test_differences_are_the_keys_that_differ_but_for_the_code(then: dict[str, str], here: dict[str, str]) -> None:
    wanted = {key for key in {*then, *here} - {"code"} if then.get(key) != here.get(key)}
    told = differences(then, here)
    assert {text.split()[0] for text in told} == wanted
    assert not told or "cpu" not in wanted or told[0].startswith("cpu")


def test_the_digest_of_source_sees_names_and_bytes_only(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "part").mkdir(parents=True)
        (tmp_path / name / "part" / "x.py").write_text("1")
    (tmp_path / "b" / "__pycache__").mkdir()
    (tmp_path / "b" / "__pycache__" / "x.pyc").write_text("2")
    digest = source_digest(tmp_path / "a")
    assert source_digest(tmp_path / "b") == digest
    (tmp_path / "b" / "part" / "x.py").rename(tmp_path / "b" / "part" / "y.py")
    assert source_digest(tmp_path / "b") != digest
    (tmp_path / "a" / "part" / "x.py").write_text("3")
    assert source_digest(tmp_path / "a") != digest
