"""Every file of a version in turn flipped, removed, swapped, linked, and files added: refused by all that uses one."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest

from ensemble import ensembles
from ensemble.records import WEIGHTS, record
from labelstack.commands import predict_images, promote, rebuild, serve
from labelstack.commands.compare.names import Names
from labelstack.commands.compare.tracked import load_version
from labelstack.ensemble import ensemble as ensemble_module
from labelstack.ensemble import integrity, load_check, log
from labelstack.ensemble.integrity import ChangedError, Registered, faults
from labelstack.params.blend import BLEND
from labelstack.params.tracking import TrackingSection
from labelstack.registry.versions import register, resolve
from labelstack.support.errors import UserError
from labelstack.tracking.runs import Tracker, connect
from registry.kept_version import KEPT, unpack

ENSEMBLE = integrity.ENSEMBLE
# What a network, a stacker, a description and MLflow's own files are; one of each kind for the ways of use.
SOME = (
    "MLmodel",
    "pyfunc_model.py",
    "requirements.txt",
    "files.json",
    "code/labelstack/cli.py",
    f"{ENSEMBLE}/blend.json",
    f"{ENSEMBLE}/labels.json",
    f"{ENSEMBLE}/members/small/model.keras",
    f"{ENSEMBLE}/record/scored.npz",
)


@dataclass
class Stored:
    """A version in a store, and the folder in which its files lie."""

    tracker: Tracker
    model: Path
    copy: Path

    @property
    def registered(self) -> Registered:
        found = Registered.of(resolve(self.tracker, "1").tags)
        assert found is not None
        return found

    def names(self) -> list[str]:
        """Its files."""
        return [name for name, kind in integrity.contents(self.copy).items() if kind == "file"]

    def restore(self) -> None:
        shutil.rmtree(self.model)
        shutil.copytree(self.copy, self.model)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """A version whose networks are arithmetic and whose source is three files, so that a copy of it is cheap."""
    folder = tmp_path_factory.mktemp("tampering")
    source = folder / "labelstack"
    (source / "ensemble").mkdir(parents=True)
    (source / "__init__.py").write_text("__version__ = '0'\n")
    (source / "cli.py").write_text("print('hello')\n")
    (source / "ensemble" / "pyfunc_model.py").write_text("pass\n")
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("MLFLOW_TRACKING_URI", load_check.DIGEST):
            patch.delenv(variable, raising=False)
        patch.setattr(log, "labelstack", SimpleNamespace(__file__=str(source / "__init__.py"), __version__="0"))
        (folder / "store").mkdir()
        tracker = connect(TrackingSection(), folder / "store")
        parts = replace(ensembles.files(folder / "parts", WEIGHTS), record=record(folder / "record"))
        (folder / "lock").write_text("numpy==2.4.6\n")
        with tracker.run("register", "ensemble") as run:
            logged = log.log_ensemble(run, parts, requirements=folder / "lock")
        register(tracker, "labelstack", "d1", lambda: logged)
        (model,) = tracker.client.search_logged_models([tracker.experiment_id])
        place = Path(unquote(urlsplit(model.artifact_location).path))
        shutil.copytree(place, folder / "copy")
        patch.chdir(folder / "store")
        patch.setattr(ensemble_module, "_real_rooms", lambda *_: ensembles.rooms([]))
        yield Stored(tracker, place, folder / "copy")


@pytest.fixture
def store(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stored]:
    """The version, put back afterwards, in the store that the environment names."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", stored.tracker.uri)
    yield stored
    stored.restore()


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def link(file: Path) -> None:
    """The same bytes, but where somebody else may change them."""
    model = next(folder for folder in file.parents if (folder / "MLmodel").exists())
    elsewhere = model.with_name(f"{model.name}-elsewhere")
    elsewhere.mkdir(exist_ok=True)
    elsewhere /= file.name
    shutil.copyfile(file, elsewhere)
    file.unlink()
    file.symlink_to(elsewhere)


def swap(file: Path) -> None:
    """The bytes of a file beside it, or of the model's description."""
    others = [other for other in sorted(file.parent.iterdir()) if other.is_file() and other != file]
    others = [other for other in others if other.read_bytes() != file.read_bytes()]
    source = others[0] if others else next(p / "MLmodel" for p in file.parents if (p / "MLmodel").is_file())
    file.write_bytes(source.read_bytes())


def add(file: Path) -> None:
    file.with_name(f"{file.stem}-more{file.suffix}").write_bytes(b"more")


WAYS: dict[str, tuple[Callable[[Path], None], str]] = {
    "flipped": (flip, "was changed"),
    "removed": (Path.unlink, "is missing"),
    "swapped": (swap, "was changed"),
    "linked": (link, "is a link"),
    "added": (add, "was added"),
}


def short(name: str) -> str:
    """As messages call a file."""
    return name.removeprefix(f"{ENSEMBLE}/")


def expected(name: str, way: str) -> str:
    """The words about a file that was tampered with so."""
    if way == "added":
        file = Path(name)
        name = (file.parent / f"{file.stem}-more{file.suffix}").as_posix()
    elif name == "files.json" and way == "swapped":
        return "files.json was changed"
    return f"{short(name)} {WAYS[way][1]}"


def test_the_untouched_version_is_whole(store: Stored) -> None:
    assert faults(store.model, store.registered) == []
    assert faults(store.model, None) == []
    assert len(store.names()) >= 34


def test_every_file_in_every_way_is_named(stored: Stored, tmp_path: Path) -> None:
    """Each of its files, those of MLflow too: what is said is about that file and, of lists, no other."""
    names, cases = stored.names(), 0
    place = tmp_path / "model"
    shutil.copytree(stored.copy, place)
    for name in names:
        content = (place / name).read_bytes()
        for way, (change, _) in WAYS.items():
            change(place / name)
            said = faults(place, stored.registered)
            assert any(expected(name, way) in one for one in said), (name, way, said)
            assert len(said) == 1 or name == "files.json" or way == "linked", (name, way, said)
            cases += 1
            for file in {(place / name).with_name(f"{Path(name).stem}-more{Path(name).suffix}"), place / name}:
                file.unlink(missing_ok=True)
            (place / name).write_bytes(content)
    assert faults(place, stored.registered) == []
    assert cases == 5 * len(names) >= 170


PLANTED = (
    "code/sitecustomize.py",
    "code/pandas/__init__.py",
    "code/labelstack/__pycache__x/cli.cpython-311.pyc",
    "code/labelstack/cli.pyc",
    "__init__.py",
    f"{ENSEMBLE}/members/three/model.keras",
    f"{ENSEMBLE}/ensemble.json~",
    "a\nb",
)


@pytest.mark.parametrize("name", PLANTED)
def test_what_was_planted_is_named(stored: Stored, tmp_path: Path, name: str) -> None:
    place = shutil.copytree(stored.copy, tmp_path / "model")
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    (place / name).write_text("import os")
    shown = short(name) if name.isprintable() else repr(name)
    assert [f"{shown} was added" in one for one in faults(place, stored.registered)] == [True]


def test_folders_devices_and_links_to_folders_are_named(stored: Stored, tmp_path: Path) -> None:
    place = shutil.copytree(stored.copy, tmp_path / "model")
    (place / "code/numpy").mkdir()
    os.mkfifo(place / "pipe")
    (place / "code/other").symlink_to(tmp_path)
    assert sorted(faults(place, stored.registered)) == [
        "code/numpy, a folder, was added",
        "code/other is a link",
        "pipe is neither a file nor a folder",
    ]


def test_bytecode_in_place_of_the_file_that_keeps_it_out(stored: Stored, tmp_path: Path) -> None:
    place = shutil.copytree(stored.copy, tmp_path / "model")
    (place / "code/labelstack/__pycache__").unlink()
    (place / "code/labelstack/__pycache__").mkdir()
    (place / "code/labelstack/__pycache__/cli.cpython-311.pyc").write_bytes(b"planted")
    said = " ".join(faults(place, stored.registered))
    assert "code/labelstack/__pycache__ is missing" in said
    assert "code/labelstack/__pycache__/cli.cpython-311.pyc was added" in said


def test_a_record_taken_away_is_one_sentence_and_a_refusal(store: Stored, tmp_path: Path) -> None:
    shutil.rmtree(store.model / ENSEMBLE / "record")
    assert faults(store.model, store.registered) == ["record is missing"]
    with pytest.raises(SystemExit) as ended:
        rebuild.run("1", tmp_path / "again")
    assert ended.value.code == 1
    assert not (tmp_path / "again").exists()


def test_lists_that_were_made_to_fit_are_not_believed(stored: Stored, tmp_path: Path) -> None:
    place = shutil.copytree(stored.copy, tmp_path / "model")
    flip(place / ENSEMBLE / "blend.json")
    assert integrity.write_list(place) != stored.registered.digest
    assert faults(place, stored.registered) == [
        "files.json was changed: its SHA-256 is not the one that the registry keeps"
    ]
    assert faults(place, None) == []  # a careful hand, and no registry to ask: docs/security.md says so


def test_what_mlflow_notes_of_a_fetched_version_may_say_nothing_else(stored: Stored, tmp_path: Path) -> None:
    place = shutil.copytree(stored.copy, tmp_path / "model")
    note = place / "registered_model_meta"
    for name in ("labelstack", "it's: #1", "x" * 200 + " " + "y" * 200, "ä"):
        from mlflow.utils.yaml_utils import write_yaml

        content = {"model_name": name, "model_version": "12"}
        write_yaml(str(place), note.name, content, overwrite=True, ensure_yaml_extension=False)
        assert integrity.fetched_as(place) == (name, "12")
        assert faults(place, stored.registered) == []
    content = {"model_name": None, "model_version": None}  # of models:/m-…, a model that is no version
    write_yaml(str(place), note.name, content, overwrite=True, ensure_yaml_extension=False)
    assert integrity.fetched_as(place) is None
    assert faults(place, stored.registered) == []
    for text in (
        "",
        "[" * 5000,
        "3",
        "model_name: null\nmodel_version: 1\n",
        "model_name: [1]\nmodel_version: {}\n",
        "model_name: x\n",
        "model_name: x\nmodel_version: 1\nmore: 2\n",
        "\xff",
        "model_name: x\nmodel_version: y\n",
    ):
        note.write_bytes(text.encode("latin-1"))
        assert faults(place, stored.registered) == ["registered_model_meta was changed"], text


def by_rebuild(store: Stored, to: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        rebuild.run("1", to / "rebuilt")
    assert ended.value.code == 1
    assert not (to / "rebuilt").exists()
    return capsys.readouterr().err


def by_predict(store: Stored, to: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(ChangedError) as refused:
        predict_images.load(store.tracker, resolve(store.tracker, "1"))
    return str(refused.value)


def loaded(store: Stored) -> Any:
    import mlflow

    with store.tracker.as_default(), pytest.MonkeyPatch.context() as patch:
        import sys

        patch.setattr(sys, "path", [*sys.path])
        return mlflow.pyfunc.load_model("models:/labelstack/1")


def by_load(store: Stored, to: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(Exception) as refused:
        loaded(store)
    return str(refused.value)


def by_serve(store: Stored, to: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(ChangedError) as refused:
        serve.prepare(store.tracker, resolve(store.tracker, "1"), to / "served", serve.Bounds(), {})
    return str(refused.value)


USES = {"rebuild": by_rebuild, "predict": by_predict, "load": by_load, "serve": by_serve}
# MLflow reads these before our code is reached; it gets no further, and says so in its own words.
MLFLOWS_WORDS = {"MLmodel", "pyfunc_model.py"}


def refused_by_all(store: Stored, name: str, way: str, place: Path, capsys: pytest.CaptureFixture[str]) -> int:
    WAYS[way][0](store.model / name)
    for use, act in USES.items():
        said = act(store, place / use, capsys)
        if use == "load" and name in MLFLOWS_WORDS and way in ("removed", "swapped", "flipped", "linked"):
            continue
        assert expected(name, way) in said, (use, name, way, said)
    store.restore()
    return len(USES)


@pytest.mark.parametrize("way", WAYS)
def test_rebuild_predict_load_and_serve_refuse_and_name(
    store: Stored, tmp_path: Path, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = SOME[list(WAYS).index(way)]
    assert refused_by_all(store, name, way, tmp_path, capsys) == 4


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_rebuild_predict_load_and_serve_refuse_and_name_each_file(
    store: Stored, tmp_path: Path, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(store.names()):
        refused_by_all(store, name, way, tmp_path / str(number), capsys)


def test_promote_and_compare_refuse(store: Stored, tmp_path: Path) -> None:
    (store.model / ENSEMBLE / "labels.json").write_text("[]")
    version = resolve(store.tracker, "1")
    with pytest.raises(ChangedError, match=r"labels\.json was changed"):
        load_version(Names(), "1", version, BLEND, tmp_path)
    store.tracker.client.delete_registered_model_alias("labelstack", "champion")
    try:
        with pytest.raises(ChangedError, match=r"labels\.json was changed"):
            promote.run("1", reason="try")
        assert "champion" not in store.tracker.client.get_registered_model("labelstack").aliases
    finally:
        store.tracker.client.set_registered_model_alias("labelstack", "champion", "1")


def test_the_untouched_version_passes_on_every_way(store: Stored, tmp_path: Path) -> None:
    rebuild.run("1", tmp_path / "again")
    assert (tmp_path / "again/params.yaml").is_file()
    image = base64.b64encode(bytes([90, 10, 90])).decode()
    predicted = predict_images.load(store.tracker, resolve(store.tracker, "1")).predict([image])
    by_mlflow = loaded(store).predict(pd.DataFrame({"image": [image]}))
    assert predicted["label_id"].tolist() == by_mlflow["label_id"].tolist() == [[7, 11]]
    told = serve.prepare(store.tracker, resolve(store.tracker, "1"), tmp_path / "served", serve.Bounds(5, 6, 7), {})
    assert told == {
        "__pyfunc_model_path__": (tmp_path / "served/version").as_uri(),
        "LABELSTACK_FILES_DIGEST": store.registered.digest,
        "LABELSTACK_MAX_ROWS": "5",
        "LABELSTACK_MAX_REQUEST_BYTES": "6",
        "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": "7",
    }
    copy = tmp_path / "served/version"
    assert {oct(file.stat().st_mode & 0o777) for file in copy.rglob("*")} == {"0o500", "0o400"}
    for folder in [copy, *(file for file in copy.rglob("*") if file.is_dir())]:
        folder.chmod(0o700)  # for pytest, which removes it


def test_loading_compares_with_what_the_environment_or_the_registry_says(
    store: Stored, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = store.model / ENSEMBLE
    monkeypatch.setenv(load_check.DIGEST, "0" * 64)
    with pytest.raises(ChangedError, match=r"files\.json was changed"):
        load_check.check_loaded(folder)
    monkeypatch.setenv(load_check.DIGEST, store.registered.digest)
    load_check.check_loaded(folder)
    monkeypatch.delenv(load_check.DIGEST)
    assert not caplog.records
    load_check.check_loaded(folder)  # MLflow notes no version in a folder that it did not fetch
    assert "compared with the lists among them only" in caplog.text
    flip(folder / "blend.json")
    with pytest.raises(ChangedError, match=r"blend\.json was changed"):
        load_check.check_loaded(folder)


def test_a_version_of_before_is_compared_as_far_as_it_was_recorded(tmp_path: Path) -> None:
    model = unpack(tmp_path)
    registered = Registered.of(json.loads((KEPT / "tags.json").read_text()))
    assert registered is not None
    assert faults(model, registered) == []
    assert faults(model, None) == []
    cases: dict[str, tuple[str, Callable[[Path], None], str]] = {
        "an ensemble's file": (f"{ENSEMBLE}/blend.json", flip, "blend.json was changed"),
        "the source": ("code/labelstack/cli.py", flip, "code/labelstack, the source, was changed"),
        "the entry script": ("ensemble_model.py", flip, "ensemble_model.py, the entry script, was changed"),
        "no entry script": ("ensemble_model.py", Path.unlink, "the entry script is missing"),
        "no description": ("MLmodel", Path.unlink, "MLmodel is missing"),
        "no checksums": (f"{ENSEMBLE}/checksums.json", Path.unlink, "checksums.json is missing or damaged"),
        "a link": ("conda.yaml", link, "conda.yaml is a link"),
        "more source": ("code/labelstack/cli.py", lambda f: (f.parent / "x.pyc").write_bytes(b"x") and None, "x.pyc"),
        "another module": ("MLmodel", lambda f: (f.parent / "code/os.py").write_bytes(b"x") and None, "code/os.py"),
        "a second script": ("MLmodel", lambda f: (f.parent / "z.py").write_bytes(b"x") and None, "z.py was added"),
        "bytecode": (
            "code/labelstack/__pycache__",
            lambda f: f.write_bytes(b"x") and None,
            "code/labelstack/__pycache__ was changed",
        ),
    }
    for name, (file, change, said) in cases.items():
        place = shutil.copytree(model, tmp_path / name)
        change(place / file)
        found = faults(place, registered)
        assert any(said in one for one in found), (name, found)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("loader_module: mlflow.pyfunc.loaders.code_model", "loader_module: evil"),
        ("code: code", "code: code/labelstack"),
        ("path: artifacts/ensemble", "path: artifacts"),
        ("ensemble_model.py", "other.py"),
        ("  python_function:", "  sklearn: {}\n  python_function:"),
        ("flavors:", "[" * 100_000),
        ("flavors:", "flavour:"),
    ],
)
def test_the_description_of_a_version_of_before_must_be_ours(tmp_path: Path, old: str, new: str) -> None:
    model = unpack(tmp_path)
    text = (model / "MLmodel").read_text()
    assert old in text
    (model / "MLmodel").write_text(text.replace(old, new, 1))
    registered = Registered.of(json.loads((KEPT / "tags.json").read_text()))
    assert faults(model, registered) == ["MLmodel was changed: it is none that labelstack writes"]


def test_a_version_without_checksums_is_used_and_said(
    store: Stored, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    version = resolve(store.tracker, "1")
    for key in (integrity.MODEL_TAG, integrity.FILES_TAG):
        version.tags.pop(key)
    (store.model / ENSEMBLE / "files/params.yaml").write_text("seed: 2\n")
    predict_images.load(store.tracker, version)
    assert "was registered before files had checksums" in caplog.text


def test_a_registry_text_that_is_no_list_is_a_sentence(stored: Stored, tmp_path: Path) -> None:
    place = shutil.copytree(stored.copy, tmp_path / "model")
    for text in ("[" * 100_000, '{"a": NaN}', "[1]", '{"a": 1}', "", "\xff"):
        (place / "files.json").write_bytes(text.encode("latin-1"))
        assert faults(place, stored.registered)[0].startswith("files.json was changed")
        assert faults(place, None) == ["files.json is damaged"]
    with pytest.raises(UserError, match="nothing of it is used"):
        integrity.check(place, stored.registered, "v1")
