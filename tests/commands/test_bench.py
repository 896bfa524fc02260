"""`labelstack bench`: where settings and cubes come from, what is printed, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from labelstack.cli import app
from labelstack.commands import bench
from labelstack.commands.bench import Options, overridden, pipeline_cube, read_settings, read_source
from labelstack.commands.bench_table import decision_table, method_table, print_tables, verdict
from labelstack.formats.manifest import write_manifest
from labelstack.images.shards.shard_files import Shard, write_shard
from labelstack.params import second_level_file as params_second_level
from labelstack.params.second_level_file import SecondLevel, default_second_level
from labelstack.predictions import write_predictions
from labelstack.scoring.bootstrap import Interval
from labelstack.stacking.bench.generator import generate
from labelstack.stacking.bench.table import BenchResult, Row
from labelstack.stages import paths
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


def text_of(*tables: object) -> str:
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for table in tables:
        console.print(table)
    return console.export_text()


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
    assert set(content["rows"][1]["test_interval"]) == {"score", "low", "high"}
    assert content["winner"] in {"best_single", "default"}
    fixed, expected = (content["decisions"][name] for name in ("fixed", "expected_f"))
    gain = expected["cross_fitted"]["samples_f1"] - fixed["cross_fitted"]["samples_f1"]
    assert expected["cross_fitted"]["gain"] == pytest.approx(gain)
    assert expected["test"] != fixed["test"]


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
    found = overridden(settings(), Options(nested=False, strategy="expected_f"))
    assert not found.folds.nested
    assert found.thresholds.strategy == "expected_f"
    assert list(found.stackers) == ["trees"]
    with pytest.raises(InputProblems, match=r"thresholds.strategy"):
        overridden(settings(), Options(strategy="guess"))


def test_cubes_are_read_made_up_or_refused():
    name, made = read_source(Options(generate="30,2,3", seed=4))
    assert name == "generated, seed 4"
    assert made.cube.shape == (30, 2, 3)
    for shape in ("30,2", "30,x,2", ""):
        with pytest.raises(UserError, match="expected images,models,labels"):
            read_source(Options(generate=shape))
    with pytest.raises(UserError, match="not both"):
        read_source(Options(cube="a.npz", generate="30,2,3"))
    with pytest.raises(UserError, match="holds no predictions of the pipeline"):
        read_source(Options())
    Path("folder").mkdir()
    for place in ("folder", "", "/proc/table.json", "/dev/null"):
        with pytest.raises(UserError, match=f"^--json {place or '.'}: "):
            bench.run(Options(generate="30,2,3", json=place))
    with pytest.raises(UserError, match="is a folder"):
        read_source(Options(cube=""))


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
    for name in ("one", "two"):
        for split, images in (("validation", [1, 3, 4]), ("test", [7, 5])):
            given[name, split] = rng.random((len(images), 2)).astype(np.float32)
            write_predictions(base_model(name).predictions / f"{split}.npz", np.array(images), given[name, split])
    write_manifest(paths.ANSWERS, pd.DataFrame({"image_id": tests, "url": [["u"]] * 3, "label_id": [[20]] * 3}))
    cube = pipeline_cube()
    assert cube.models == ("one", "two")
    assert cube.labels.tolist() == [[1, 0], [0, 0], [1, 1]]  # images 3, 1 and 4; nobody could fetch 8
    assert np.array_equal(cube.cube[:, 1], given["two", "validation"][[1, 0, 2]])
    assert np.array_equal(cube.test_cube[:, 0], given["one", "test"][[1, 0]])  # 5 and 7; 6 could not be fetched
    assert cube.test_labels.tolist() == [[0, 1], [0, 1]]
    write_manifest(paths.ANSWERS, pd.DataFrame({"image_id": [], "url": [], "label_id": []}))
    assert pipeline_cube().test_cube is None
    paths.ANSWERS.unlink()
    assert pipeline_cube().test_cube is None


def made_up() -> BenchResult:
    interval = Interval(0.5, 0.45, 0.55)
    reference = Row(
        "MultiOutputRegressor", "reference", 3000.0, 12.0, 10**9, details={
            "estimated": True, "seconds_per_label": 2.5, "labels": [1, 2],
        },
    )  # fmt: skip
    base = Row("best_single", "best base model", 0.0, 0.0, 2 * 10**8, SCORES, interval, details={"note": "[red]net"})
    trees = Row("trees", "stacker", 30.0, 0.5, 3 * 10**8, SCORES | {"samples": 0.6}, interval, faster=100.0)
    weights = {"weights": {"trees": 0.75, "[red]net": 0.25}, "strategy": "context"}
    default = Row("default", "second level", 400.0, 1.0, 4 * 10**8, SCORES, interval, details=weights)
    failed = Row("cnn", "stacker", error="its process ended early (killed by signal 9, out of memory?)")
    fitted = {f"{a}_f1": v for a, v in SCORES.items()} | {"low": 0.4, "high": 0.6}
    decisions = {
        "fixed": {"cross_fitted": fitted | {"gain": 0.0, "gain_low": 0.0, "gain_high": 0.0}},
        "context": {"cross_fitted": fitted | {"gain": 0.01, "gain_low": -0.002, "gain_high": 0.02}},
    }
    rows = [reference, base, trees, default, failed]
    return BenchResult(rows, decisions, trees, Interval(0.1, 0.05, 0.15), Interval(0.1, 0.02, 0.2))


def test_the_table_shows_costs_scores_and_failures():
    text = text_of(method_table(made_up().rows, settings()))
    lines = {line.split()[0]: line.split() for line in text.split("\n") if line.strip()}
    assert lines["MultiOutputRegressor"][1:5] == ["3,000*", "12", "1,000", "–"]
    assert lines["best_single"][1:6] == ["([red]net)", "0", "0", "200", "–"]
    assert lines["best_single"][6:] == ["0.5000", "0.4500–0.5500", "0.6000", "0.4000"]
    assert lines["trees"][1:5] == ["30", "0.50", "300", "100"]
    assert lines["cnn"][-1] == "failed"
    assert "test" not in text
    with_test = [replace(row, test=SCORES) if row.cross_fitted else row for row in made_up().rows]
    assert text_of(method_table(with_test, settings())).count("test") == 4


def test_decisions_stand_beside_the_fixed_threshold():
    text = text_of(decision_table(made_up(), settings()))
    assert "+0.0100 -0.0020 … +0.0200" in text
    assert "gain over 0.3" in text


def test_the_verdict_says_what_won_and_by_how_much():
    found = made_up()
    assert verdict(found, settings()) == (
        "trees won, cross-fitted samples F1 0.6000 [0.4500, 0.5500], +0.1000 [+0.0500, +0.1500] on best_single, "
        "+0.1000 [+0.0200, +0.2000] on default"
    )
    tested = replace(found, winner=replace(found.winner, test=SCORES), gain=None, against_default=None)
    assert verdict(tested, settings()).endswith("[0.4500, 0.5500], test 0.5000")
    assert verdict(replace(found, winner=None), settings()) == "nothing was scored"


def test_a_failed_method_ends_the_command_with_an_error_after_the_table(capsys):
    data = generate(20, 2, 3, n_test=0)
    with pytest.raises(UserError, match=r"1 of 5 methods failed: cnn \(its process ended early"):
        bench.finish(made_up(), data, settings(), source="made up", origin="here")
    out = capsys.readouterr().out
    assert "default: trees 0.75, [red]net 0.25; decision: context." in out
    assert "* 2.5 s a label and fold, measured on 2 labels of one fold" in out
    assert out.rstrip().split("\n")[-1].endswith("→ printed only; --json FILE keeps it")


def test_nothing_is_said_of_what_was_not_measured(capsys):
    print_tables(replace(made_up(), rows=made_up().rows[1:3], decisions={}), _about(), settings())
    out = capsys.readouterr().out
    assert "no test pair" in out
    assert "Decisions" not in out
    assert "default: " not in out.replace("default: everything", "")


def _about() -> dict[str, object]:
    return bench.describe(generate(20, 2, 3, n_test=0), settings(), "made up", "here")


def test_help_and_settings_load_no_frameworks():
    code = "import sys, labelstack.commands.bench as b; b.read_settings('default'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "sklearn", "xgboost", "tensorflow"} & set(done.stdout.split())
    assert params_second_level.__name__ in done.stdout


def test_bounds_of_options():
    result = CliRunner().invoke(app, ["bench", "--reference-labels", "0"])
    assert result.exit_code == 2
    assert "--reference-labels" in result.output
