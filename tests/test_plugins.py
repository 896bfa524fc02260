"""A package from outside brings a backbone, a stacker, a loss and a format, without a line of labelstack changed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from labelstack.formats.format import format_of
from labelstack.params import Params, load_params
from labelstack.params.backbone_names import backbone_of
from labelstack.params.stackers import section_of
from labelstack.support.catalogue import Catalogue
from labelstack.support.errors import InputProblems, UserError

ENTRY_POINTS = """
[labelstack.backbones]
fern = garden:FERN
moss = garden:MOSS
[labelstack.stackers]
sharpened = garden:SharpenedStackerSection
[labelstack.second_round]
gentle = garden.round:GentleSection
[labelstack.losses]
squared = garden.loss:squared
[labelstack.formats]
pairs = garden.pairs
"""
FILES = {
    "__init__.py": """
        from typing import ClassVar, Literal

        from pydantic import Field

        from labelstack.params.backbone_names import Backbone
        from labelstack.params.stackers import StackerSection

        FERN = Backbone("garden.network", smallest=12, twin={"width": 2})
        MOSS = Backbone("garden.network", smallest=40)


        class SharpenedStackerSection(StackerSection):
            stacker: ClassVar[str] = "garden.stack:SharpenedStacker"
            kind: Literal["sharpened"] = "sharpened"
            power: float = Field(2, gt=0, le=9)
        """,
    "network.py": """
        import keras
        from keras import layers

        from labelstack.networks.backbones.architecture import Architecture, plus_minus_one


        @keras.saving.register_keras_serializable(package="garden")
        class Leaf(layers.Layer):
            def call(self, x):
                return x * 0.5

            def compute_output_shape(self, input_shape):
                return input_shape


        def body(image_size, weights, *, width):
            image = keras.Input((image_size, image_size, 3), name="preprocessed")
            x = layers.Conv2D(width, 3, strides=4, activation="relu", name="stem")(image)
            return keras.Model(image, Leaf(name="leaf")(x), name="fern")


        ARCHITECTURES = {
            "fern": Architecture(body, plus_minus_one, {"width": 4, "batch_norm_momentum": None}, published=False)
        }
        """,
    "loss.py": """
        import tensorflow as tf


        def squared(targets, logits, known, frequency):
            assert known is None
            return tf.reduce_mean((targets - tf.sigmoid(logits)) ** 2, axis=-1)
        """,
    "stack.py": """
        import numpy as np

        from labelstack.stacking.stackers.array_stacker import ArrayStacker


        class SharpenedStacker(ArrayStacker):
            kind = "sharpened"

            def __init__(self, *, power=2.0):
                self.power = power

            def _learn(self, cube, targets, progress):
                return {"scale": targets.mean(0) / np.maximum((cube.mean(1) ** self.power).mean(0), 1e-6)}

            def _answer(self, cube, arrays):
                return cube.mean(1) ** self.power * arrays["scale"]
        """,
    "round.py": """
        from typing import ClassVar, Literal

        from labelstack.params.second_round import SecondRoundSection


        class GentleSection(SecondRoundSection):
            work: ClassVar[str] = "garden.gentle:Gentle"
            takes: ClassVar[tuple[str, ...]] = ("weights",)
            kind: Literal["gentle"] = "gentle"
            softness: float = 0.1
        """,
    "gentle.py": """
        import numpy as np

        from labelstack.stages.members import Network
        from labelstack.stages.second_kinds.kind import SecondKind


        class Gentle(SecondKind):
            def start(self, fold):
                return Network(self.section.after[0], fold).weights

            def targets(self, rows):
                soft = self.section.softness
                return np.clip(rows.Y.astype(np.float32), soft, 1 - soft)
        """,
    "pairs.py": """
        from pathlib import Path

        import numpy as np
        import pandas as pd

        from labelstack.formats.format import CompetitionData
        from labelstack.formats.submission import Form
        from labelstack.support.storage import replacing

        REQUIRED, OPTIONAL = ("photos.csv",), {}


        def missing_files(root):
            return [] if (Path(root) / "photos.csv").exists() else [f"{root}/photos.csv: missing"]


        def read(root, label_ids, folds):
            table = pd.read_csv(Path(root) / "photos.csv", dtype={"labels": str}, keep_default_na=False)
            lists = [[int(label) for label in text.split()] for text in table["labels"]]
            table = table.assign(label_id=pd.Series(lists, dtype=object), url=[[url] for url in table["url"]])
            columns = ["image_id", "url", "label_id"]
            manifests = {name: part[columns].reset_index(drop=True) for name, part in table.groupby("split")}
            manifests["test"]["label_id"] = None
            ids = sorted({label for row in lists for label in row})
            names = [f"label {i}" for i in ids]
            labels = pd.DataFrame({"label_id": np.array(ids, np.int32), "name": names, "group": ""})
            for split in ("train", "validation"):
                rows = manifests[split]["label_id"]
                labels[f"n_{split}"] = [sum(label in row for row in rows) for label in ids]
            form = Form(manifests["test"]["image_id"].to_numpy(np.int64), ("image_id", "labels"))
            order = {split: manifests[split] for split in ("train", "validation", "test")}
            return CompetitionData(order, labels, form, {"labels": len(ids)})


        def answers(path, labels):
            raise NotImplementedError


        def write_submission(path, form, labels):
            rows = [f"{image}={'|'.join(map(str, row))}" for image, row in zip(form.image_id, labels)]
            with replacing(path) as temporary:
                temporary.write_text("\\n".join(rows) + "\\n")
        """,
}
PARAMS: dict[str, Any] = {
    "dataset": {"format": "pairs", "root": "photos"},
    "folds": {"k": 2},
    "models": {
        "fern": {"backbone": "fern", "loss": "squared", "image_size": 16},
        "plain": {"backbone": "small_cnn", "image_size": 16},
    },
    "stackers": {"sharp": {"kind": "sharpened", "power": 3}, "mean": {"kind": "mean"}},
}


def planted(folder: Path, entry_points: str = ENTRY_POINTS) -> Path:
    """The package as `pip install` lays it down."""
    (folder / "garden").mkdir(parents=True)
    for name, text in FILES.items():
        (folder / "garden" / name).write_text(re.sub("^ {8}", "", text, flags=re.M))
    about = folder / "garden_pack-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: garden-pack\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(entry_points)
    return folder


@pytest.fixture(scope="module")
def garden(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = planted(tmp_path_factory.mktemp("site"))
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == "garden"]:
        del sys.modules[name]


@pytest.fixture
def params(garden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(tmp_path)
    return load_params(written(PARAMS))


def written(content: dict[str, Any]) -> Path:
    Path("params.yaml").write_text(yaml.safe_dump(content))
    return Path("params.yaml")


def python(code: str, *places: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A new process that finds what lies in ``places``."""
    found = [str(place) for place in places] + [os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, found)), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, text=True, capture_output=True, check=False
    )


def test_params_know_the_names_their_keys_and_their_bounds(params: Params) -> None:
    assert params.stackers["sharp"].model_dump() == {"kind": "sharpened", "power": 3}
    wrong = {
        "dataset": {"format": "pears"},
        "models": {
            "a": {"backbone": "ferm"},
            "b": {"backbone": "moss", "image_size": 16, "loss": "sqared"},
        },
        "stackers": {
            "s": {"kind": "sharpned"},
            "t": {"kind": "sharpened", "powr": 1},
            "u": {"kind": "sharpened", "power": 0},
        },
    }
    with pytest.raises(InputProblems) as caught:
        load_params(written(PARAMS | wrong))
    for key, near in (
        ("dataset.format: unknown format 'pears'", "pairs"),
        ("models.a.backbone: unknown backbone 'ferm'", "fern"),
        ("models.b.image_size: 16 px is below the minimum of moss", "40 px"),
        ("models.b.loss: unknown loss 'sqared'", "squared"),
        ("stackers.s.kind: unknown stacker kind 'sharpned'", "sharpened"),
        ("stackers.t.powr: unknown key", "power"),
        ("stackers.u.power: ", "greater than 0"),
    ):
        assert [problem for problem in caught.value.problems if problem.startswith(key) and near in problem], key


def test_a_network_of_the_backbone_trains_with_the_loss_and_is_loaded_by_a_new_process(
    params: Params, garden: Path, tmp_path: Path
) -> None:
    from labelstack.networks.inference import compile_predict, save_model
    from labelstack.networks.training import train
    from labelstack.params.training import TrainingSection
    from networks.tiny_training import N_LABELS, ArrayBatches, draw, tiny

    model = tiny(backbone="fern", loss="squared", options={"width": 3}, epochs=3)
    images, targets = draw(40)
    result = train(
        model, TrainingSection(), ArrayBatches(images, targets), None, n_labels=N_LABELS, prior=targets.mean(0), seed=1,
        work=tmp_path / "work",
    )  # fmt: skip
    losses = result.history["loss"].tolist()
    assert losses[-1] < losses[0] < 0.3  # a cross-entropy would start higher
    save_model(result.model, tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images[:4])
    code = (
        "import numpy as np; from labelstack.networks.inference import compile_predict, load_model\n"
        "print(compile_predict(load_model('model.keras'))(np.load('images.npy')).tolist())"
    )
    said = python(code, garden, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    np.testing.assert_allclose(json.loads(said.stdout), compile_predict(result.model)(images[:4]), atol=1e-6)


def test_the_loss_may_be_part_of_a_mix_and_its_source_counts_then(params: Params) -> None:
    from labelstack.networks.tasks import multi_label
    from labelstack.stages import code
    from networks.tiny_training import tiny

    mix = {"kind": "mix", "of": [{"loss": {"kind": "squared"}, "weight": 2}, {"loss": "bce"}]}
    targets, logits = np.array([[1.0, 0.0]]), np.array([[0.0, 0.0]], np.float32)
    found = multi_label(tiny(loss=mix), 2).loss(targets, logits, None)
    assert found.numpy() == pytest.approx([2 * 0.25 + np.log(2)])
    models = {"fern": PARAMS["models"]["fern"] | {"loss": mix}}
    chosen = code.chosen(load_params(written(PARAMS | {"models": models})), "train", "fern", "all")
    assert chosen == ("fern", "bce+squared")
    assert "labelstack.networks.losses.bce" in code.modules("train", *chosen)
    assert len({code.code_digest("train", "fern", name) for name in ("bce", "squared", "bce+squared")}) == 3


def test_the_stacker_is_fitted_in_folds_saved_and_loaded(params: Params, tmp_path: Path) -> None:
    from labelstack.stacking import assign_folds, load_stacker, make_stacker, out_of_fold

    rng = np.random.default_rng(0)
    Y = rng.random((40, 5)) < 0.4
    cube = np.clip(Y[:, None] * 0.5 + rng.random((40, 3, 5)) * 0.5, 0, 1).astype(np.float32)
    result = out_of_fold(
        lambda: make_stacker(params.stackers["sharp"]), cube, Y, assign_folds(Y, 2, 0), work=tmp_path / "work"
    )
    result.ensemble.save(tmp_path / "folds")
    loaded = load_stacker(tmp_path / "folds")
    assert loaded.digest() == result.ensemble.digest()
    np.testing.assert_array_equal(loaded.predict_proba(cube), result.ensemble.predict_proba(cube))


def test_the_format_is_read_by_ingest_and_writes_the_submission(params: Params) -> None:
    import pandas as pd

    from labelstack.commands.check import missing_files
    from labelstack.formats.manifest import read_manifest
    from labelstack.formats.submission import read_form
    from labelstack.stages import ingest, paths

    assert missing_files(params.dataset) == ["photos/photos.csv: missing"]
    Path("photos").mkdir()
    splits = ["train"] * 4 + ["validation"] * 3 + ["test"] * 2
    table = pd.DataFrame({"split": splits, "image_id": range(9), "url": "http://h/p.jpg"})
    table.assign(labels=["1 2", "2", "", "7", "1", "2 7", "7", "", ""]).to_csv("photos/photos.csv", index=False)
    ingest.run()
    assert read_manifest(paths.manifest("validation"))["label_id"].tolist() == [[1], [2, 7], [7]]
    assert pd.read_parquet(paths.LABELS)["n_train"].tolist() == [1, 2, 1]
    form = read_form(paths.SUBMISSION_FORM)
    format_of(params.dataset.format).write_submission("out/s.txt", form, [[2, 7], []])
    assert Path("out/s.txt").read_text() == "7=2|7\n8=\n"


def test_a_kind_of_second_round_says_what_is_learned_begun_with_and_seen(params: Params) -> None:
    from labelstack.stages import code
    from labelstack.stages.rows import Rows
    from labelstack.stages.second_kinds.kind import kind_of, view_of
    from labelstack.stages.settings import settings

    section = {"kind": "gentle", "after": ["fern"], "softness": 0.25, "epochs": 2}
    seconded = load_params(written(PARAMS | {"second_round": {"softer": section}}))
    softer, ids = seconded.second_round["softer"], np.arange(2)
    kind = kind_of(seconded, softer)
    rows = Rows("train", ids, ids, np.array([[True, False], [False, False]]))
    assert kind.targets(rows).tolist() == [[0.75, 0.25], [0.25, 0.25]]
    assert kind.start("all") == Path("models/networks/fern/all/model.keras")
    assert view_of(softer)(seconded, softer, {}) == {}
    network = seconded.network("softer", "all")
    assert (network.backbone, network.loss, network.epochs) == ("fern", "squared", 2)
    stated = settings(seconded)
    assert stated["second_round"]["softer"]["learned"] == {"softness": 0.25}
    assert stated["second_round"]["softer"]["own"] == {}  # it sees whole images, so no box depends on its keys
    assert stated["members"]["needs"] == {"softer": [["fern"], ["weights"]]}
    reached = code.modules("second", *code.chosen(seconded, "second", "softer", "all"))
    assert "labelstack.stages.second_kinds.kind" in reached
    assert "labelstack.stages.second_kinds.crop" not in reached


DIGESTS = """
import json
from labelstack.params import load_params
from labelstack.stages import settings

print(json.dumps(settings.code(load_params())))
"""


def test_the_source_counts_for_the_stages_that_it_decides_and_for_no_others(params: Params, tmp_path: Path) -> None:
    site = planted(tmp_path / "site")

    def digests() -> dict[str, str]:
        said = python(DIGESTS, site, cwd=tmp_path)
        assert said.returncode == 0, said.stderr
        found = json.loads(said.stdout)
        flat = {stage: digest for stage, digest in found.items() if isinstance(digest, str)}
        parts = {stage: digest for stage, digest in found.items() if isinstance(digest, dict)}
        return flat | {f"{stage}.{name}": part[name] for stage, part in parts.items() for name in part}

    before = digests()
    loss = site / "garden" / "loss.py"
    loss.write_text(loss.read_text() + "\n# said otherwise\n")
    assert digests() == before
    loss.write_text(loss.read_text() + "\nCHANGED = True\n")
    after = digests()
    changed = {stage for stage in before if after[stage] != before[stage]}
    assert changed == {"ingest", "train.fern", "predict.fern", "stack.sharp", "submit"}


def test_what_a_plug_in_builds_upon_counts_for_it(params: Params, garden: Path) -> None:
    from labelstack.stages import code

    assert "labelstack.stacking.stackers.array_stacker" in code.modules("stack", "sharpened")
    assert "labelstack.networks.losses.bce" not in code.modules("train", "fern", "squared")
    assert code.code_digest("train", "fern", "bce") != code.code_digest("train", "fern", "squared")
    code.keep({("stack", "sharpened"): "0" * 16})
    assert code.kept_code_digest("stack", "sharpened") == "0" * 16


def test_without_the_package_its_names_are_unknown(params: Params, tmp_path: Path) -> None:
    said = python("from labelstack.params import load_params; load_params()", cwd=tmp_path)
    for line in (
        "dataset.format: unknown format 'pairs'",
        "models.fern.backbone: unknown backbone 'fern'",
        "models.fern.loss: unknown loss 'squared'",
        "stackers.sharp.kind: unknown stacker kind 'sharpened'",
    ):
        assert line in said.stderr


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_package_that_cannot_be_imported_is_named(elsewhere: Path) -> None:
    planted(elsewhere, "[labelstack.things]\nrose = garden_gone.beds:ROSE\n")
    things = Catalogue("labelstack.things", {"own": "json:loads"})
    assert things.names() == ["own", "rose"]
    assert things.reference("rose") == "garden_gone.beds:ROSE"
    with pytest.raises(UserError, match=r"plug-in rose = garden_gone.beds:ROSE \(labelstack.things, of garden-pack\)"):
        things.load("rose")


def test_a_name_of_our_own_is_not_to_be_taken(elsewhere: Path) -> None:
    planted(elsewhere, "[labelstack.things]\nown = garden:FERN\n")
    things = Catalogue("labelstack.things", {"own": "json:loads", "module": "json"})
    assert things.load("own") is json.loads
    assert things.load("module") is json
    for ask in (lambda: "other" in things, things.names):
        with pytest.raises(UserError, match=r"plug-in own = garden:FERN .* has a name of labelstack's own"):
            ask()


def test_two_packages_of_one_name_are_refused(elsewhere: Path) -> None:
    planted(elsewhere, "[labelstack.things]\nrose = garden:FERN\n")
    other = elsewhere / "weeds-1.0.dist-info"
    shutil.copytree(elsewhere / "garden_pack-1.0.dist-info", other)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: weeds\nVersion: 1.0\n")
    with pytest.raises(UserError, match="uninstall one of the two"):
        Catalogue("labelstack.things", {}).names()


@pytest.mark.parametrize(
    ("group", "ask", "said"),
    [
        ("backbones", backbone_of, "expected a Backbone"),
        ("stackers", section_of, "expected a StackerSection"),
        ("formats", format_of, "lacks REQUIRED, OPTIONAL, missing_files, read, answers, write_submission"),
    ],
)
def test_an_entry_that_is_something_else_is_refused(
    elsewhere: Path, group: str, ask: Callable[[str], object], said: str
) -> None:
    planted(elsewhere, f"[labelstack.{group}]\nrose = json:loads\n")
    with pytest.raises(UserError, match=rf"rose = json:loads \(labelstack\.{group}\): .*{said}"):
        ask("rose")


def test_a_backbone_without_its_architecture_is_named(params: Params) -> None:
    from labelstack.networks.backbones import architecture_of

    with pytest.raises(UserError, match=r"backbone moss: garden.network gives no ARCHITECTURES\['moss'\]"):
        architecture_of("moss")
