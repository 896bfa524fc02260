"""`labelstack bench`: where settings and cubes come from, what is printed, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from labelstack.cli import app
from labelstack.commands import bench
from labelstack.commands.bench import overridden, pipeline_cube, read_settings, read_source
from labelstack.commands.bench_table import finish
from labelstack.formats.manifest import write_manifest
from labelstack.images.shards.shard_files import Shard, write_shard
from labelstack.params import second_level_file as params_second_level
from labelstack.params.second_level_file import SecondLevel, default_second_level
from labelstack.predictions import write_predictions
from labelstack.scoring.bootstrap import Interval
from labelstack.stacking.bench.generator import generate
from labelstack.stacking.bench.process import Row
from labelstack.stages import paths
from labelstack.stages.fold_files import write_stacking
from labelstack.stages.members import base_model
from labelstack.support.errors import InputProblems, UserError

REPOSITORY = Path(__file__).resolve().parents[2]
SECTIONS = """
stackers:
  trees: {kind: xgboost, features: own, n_estimators: 4, max_depth: 2}
folds: {k: 2}
thresholds: {strategy: global}
"""
SCORES = {"samples": 0.5, "micro": 0.6, "macro": 0.4}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings() -> SecondLevel:
    Path("params.yaml").write_text(SECTIONS)
    return read_settings(None)[0]


def test_one_command_from_file_to_verdict(here, capfd):
    drawn = generate(60, 2, 4, n_test=20)
    np.savez(
        "cube.npz", cube=drawn.cube.astype(np.float16), labels=drawn.labels,
        test_cube=drawn.test_cube, test_labels=drawn.test_labels,
    )  # fmt: skip
    Path("params.yaml").write_text(SECTIONS + "train: {lr: 3}\n")
    arguments = ["bench", "cube.npz", "--members", "best_single, default", "--no-reference", "--json", "out/table.json"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "cube.npz: 60 images × 2 models × 4 labels, 20 test images; 2 folds, samples F1" in result.stdout
    assert "MultiOutputRegressor" not in result.stdout
    last = result.stdout.strip().split("\n")[-1]
    assert last.startswith("bench: ")
    assert " won, cross-fitted samples F1 0." in last
    assert last.endswith("→ out/table.json")
    content = json.loads(Path("out/table.json").read_text())
    assert [row["name"] for row in content["rows"]] == ["best_single", "default"]
    assert content["settings"]["thresholds"]["strategy"] == "global"
    assert set(content["rows"][1]["interval"]) == {"score", "low", "high"}
    assert content["rows"][1]["test"]
    assert content["winner"] in {"best_single", "default"}
    decisions = content["rows"][1]["details"]["decisions"]
    gain = decisions["expected_f"]["samples_f1"] - decisions["fixed"]["samples_f1"]
    assert decisions["expected_f"]["gain"] == pytest.approx(gain)
    assert decisions["expected_f"] != decisions["fixed"]
    assert "test macro" in decisions["fixed"]


def test_settings_of_another_project_are_left_alone(capsys):
    assert read_settings(None) == (default_second_level(), "shipped default")
    Path("params.yaml").write_text("train: {lr: 3}\nmodel: resnet\n")
    assert read_settings(None) == (default_second_level(), "shipped default")
    assert "params.yaml: has none of the sections folds, stackers" in capsys.readouterr().err
    with pytest.raises(UserError, match="has none of the sections"):
        read_settings("params.yaml")


def test_sections_that_are_there_are_taken_and_the_rest_is_shipped():
    Path("params.yaml").write_text("metric: {primary: macro, beta: 2}\nmodels: {x: {backbone: of another world}}\n")
    found, origin = read_settings(None)
    assert origin == "params.yaml"
    assert (found.metric.primary, found.metric.beta) == ("macro", 2)
    assert found.stackers == default_second_level().stackers
    assert read_settings("default") == (default_second_level(), "shipped default")
    Path("mine.yaml").write_text(SECTIONS)
    assert list(read_settings("mine.yaml")[0].stackers) == ["trees"]


def test_the_repositorys_params_are_read():
    found, _ = read_settings(str(REPOSITORY / "params.yaml"))
    assert found.stackers


def test_wrong_sections_are_told_at_once_with_a_way_out():
    Path("params.yaml").write_text("folds: {k: 1}\nmetric: {primary: samples_f1}\nstackers: {a: {kind: xgbost}}\n")
    with pytest.raises(InputProblems) as caught:
        read_settings(None)
    text = "\n".join(caught.value.problems)
    for part in ("folds.k", "metric.primary", "did you mean 'xgboost'", "--params default"):
        assert part in text
    with pytest.raises(InputProblems) as caught:
        read_settings("params.yaml")
    assert "--params default" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: [", "not valid YAML"), ("- a\n- b\n", "expected a mapping"), (b"\xff\xfe", "not UTF-8 text")],
)
def test_files_that_are_no_params(content, message):
    Path("p.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        read_settings("p.yaml")
    with pytest.raises(UserError, match=r"none\.yaml: not found"):
        read_settings("none.yaml")


def test_the_command_line_overrides():
    found = overridden(settings(), nested=False, strategy="expected_f")
    assert not found.folds.nested
    assert found.thresholds.strategy == "expected_f"
    assert list(found.stackers) == ["trees"]
    with pytest.raises(InputProblems, match=r"thresholds.strategy"):
        overridden(settings(), strategy="guess")


def test_cubes_are_read_made_up_or_refused():
    name, made = read_source(generate="30,2,3", seed=4)
    assert name == "generated, seed 4"
    assert made.cube.shape == (30, 2, 3)
    for shape in ("30,2", "30,x,2", ""):
        with pytest.raises(UserError, match="expected images,models,labels"):
            read_source(generate=shape)
    with pytest.raises(UserError, match="not both"):
        read_source("a.npz", "30,2,3")
    with pytest.raises(UserError, match="holds no predictions of the pipeline"):
        read_source()
    Path("folder").mkdir()
    for place in ("folder", "", "/proc/table.json", "/dev/null"):
        with pytest.raises(UserError, match=f"^--json {place or '.'}: "):
            bench.run(generate="30,2,3", json=place)
    with pytest.raises(UserError, match="Is a directory"):
        read_source("")


def test_the_pipelines_predictions_make_a_cube():
    Path("params.yaml").write_text(
        "models: {one: {backbone: pixels}, two: {backbone: pixels}}\nstackers: {s: {kind: xgboost}}\n"
    )
    rng = np.random.default_rng(0)
    ids, tests = [3, 1, 8, 4], [5, 6, 7]
    paths.LABELS.parent.mkdir(parents=True)
    pd.DataFrame({"label_id": [10, 20], "name": ["a", "b"], "group": ["", ""]}).to_parquet(paths.LABELS)
    manifest = pd.DataFrame({"image_id": ids, "url": [["u"]] * 4, "label_id": [[10], [], [20], [10, 20]]})
    write_manifest(paths.manifest("validation"), manifest)
    jpegs, status = [b"x", b"x", None, b"x"], ["ok", "ok", "timeout", "ok"]
    shard = Shard(np.array(ids), jpegs, status, np.ones(4, np.int32), np.ones(4, np.int32))
    write_shard(paths.shards("validation") / "shard-00000.parquet", shard, [str(i) for i in ids])
    given = {}
    write_stacking(np.array([3, 1, 4]), np.array([0, 1, 0]))
    for name in ("one", "two"):
        for part, images in (("oof", [1, 3, 4]), ("test", [7, 5])):
            given[name, part] = rng.random((len(images), 2)).astype(np.float32)
            write_predictions(base_model(name).predictions / f"{part}.npy", np.array(images), given[name, part])
    write_manifest(paths.ANSWERS, pd.DataFrame({"image_id": tests, "url": [["u"]] * 3, "label_id": [[20]] * 3}))
    cube = pipeline_cube()
    assert cube.models == ("one", "two")
    assert cube.labels.tolist() == [[1, 0], [0, 0], [1, 1]]  # images 3, 1 and 4; nobody could fetch 8
    assert np.array_equal(cube.cube[:, 1], given["two", "oof"][[1, 0, 2]])
    assert np.array_equal(cube.test_cube[:, 0], given["one", "test"][[1, 0]])  # 5 and 7; 6 could not be fetched
    assert cube.test_labels.tolist() == [[0, 1], [0, 1]]
    write_manifest(paths.ANSWERS, pd.DataFrame({"image_id": [], "url": [], "label_id": []}))
    assert pipeline_cube().test_cube is None
    paths.ANSWERS.unlink()
    assert pipeline_cube().test_cube is None


def made_up() -> list[Row]:
    data, interval = generate(20, 2, 3, n_test=0), Interval(0.5, 0.45, 0.55)
    estimate = {"seconds_per_label": 2.5, "labels": [1, 2]}
    weights = {"weights": {"trees": 0.75, "[red]net": 0.25}, "strategy": "context"}
    true, none = data.labels > 0, data.labels > 1
    return [
        Row("MultiOutputRegressor", 3000.0, 12.0, 10**9, details=estimate),
        Row("best_single", 0.0, 0.0, None, SCORES, interval, details={"note": "[red]net"}, labels=none),
        Row(
            "trees", 30.0, 0.5, 3 * 10**8, SCORES | {"samples": 0.6}, Interval(0.6, 0.5, 0.7), None, 100.0, labels=true
        ),
        Row("default", 400.0, 1.0, 4 * 10**8, SCORES, interval, details=weights, labels=none),
        Row("cnn", error="its process ended early (out of memory?)"),
    ]


def test_costs_scores_failures_and_the_verdict_are_printed(capsys):
    with pytest.raises(UserError, match=r"1 of 5 methods failed: cnn \(its process ended early"):
        finish(made_up(), generate(20, 2, 3, n_test=0), settings(), source="made up", origin="here")
    out = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in out.split("\n")[3:10]}
    assert lines["MultiOutputRegressor"][1:] == ["3,000", "12", "1,000", *"––––––"]
    assert lines["best_single"][1:] == ["([red]net)", *"00––", "0.5000", "0.6000", "0.4000", "0.4500", "0.5500"]
    assert lines["trees"][1:6] == ["30", "0.5", "300", "100", "0.6000"]
    assert lines["cnn:"][1] == "failed"
    assert "made up: 20 images × 2 models × 3 labels, no test pair; 2 folds, samples F1" in out
    assert "default: trees 0.75, [red]net 0.25; decision: context." in out
    assert "2.5 s a label and fold, measured on 2 labels of one fold" in out
    assert "Decisions" not in out
    last = out.rstrip().split("\n")[-1]
    assert last.startswith("bench: trees won, cross-fitted samples F1 0.6000 [0.5000, 0.7000], +")
    assert "] on best_single, +" in last
    assert last.endswith("] on default → printed only; --json FILE keeps it")


def test_only_a_reference_has_no_winner(capsys):
    found = finish(made_up()[:1], generate(20, 2, 3, n_test=0), settings(), source="made up", origin="here")
    assert found["winner"] is None
    assert "nothing was scored" in capsys.readouterr().out


def test_help_and_settings_load_no_frameworks():
    code = "import sys, labelstack.commands.bench as b; b.read_settings('default'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "sklearn", "xgboost", "tensorflow"} & set(done.stdout.split())
    assert params_second_level.__name__ in done.stdout


def test_bounds_of_options():
    result = CliRunner().invoke(app, ["bench", "--reference-labels", "0"])
    assert result.exit_code == 2
    assert "--reference-labels" in result.output
