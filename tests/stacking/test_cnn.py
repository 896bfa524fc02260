"""The convolutional stacker with the published layers: layers, parameter count, determinism, files."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import average_precision_score

from labelstack.params.stackers import CNNStackerSection
from labelstack.stacking import CNNStacker, assign_folds, load_stacker, make_stacker, out_of_fold
from labelstack.stacking.stackers.cnn import build_cnn
from labelstack.stacking.stackers.cnn_training import batch_rows, cross_entropy
from labelstack.support.errors import UserError

from .conftest import Data, make_data


def small(**options: object) -> CNNStacker:
    settings: dict[str, object] = {
        "structure": "published",
        "filters": [4, 8],
        "units": 16,
        "epochs": 3,
        "batch_size": 60,
        "early_stopping": None,
    }
    return CNNStacker(**(settings | options))  # type: ignore[arg-type]


def layers_of(model: object) -> list[tuple[str, tuple[int, ...]]]:
    return [(type(layer).__name__, tuple(layer.output.shape[1:])) for layer in model.layers]  # type: ignore[attr-defined]


def test_layers_and_parameters_of_the_flagship() -> None:
    model = build_cnn(CNNStacker(structure="published"), n_models=9, n_labels=228)
    assert layers_of(model) == [
        ("InputLayer", (9, 228, 1)),
        ("Conv2D", (7, 228, 8)),
        ("Conv2D", (5, 228, 16)),
        ("Conv2D", (3, 228, 32)),
        ("Conv2D", (1, 228, 64)),
        ("Flatten", (228 * 64,)),
        ("Dense", (1024,)),
        ("Dense", (228,)),
    ]
    convolutions = (3 * 1 * 8 + 8) + (3 * 8 * 16 + 16) + (3 * 16 * 32 + 32) + (3 * 32 * 64 + 64)
    dense = (228 * 64 * 1024 + 1024) + (1024 * 228 + 228)
    assert model.count_params() == convolutions + dense == 15_185_140
    activations = [layer.activation.__name__ for layer in model.layers if hasattr(layer, "activation")]
    assert activations == ["relu"] * 5 + ["sigmoid"]
    assert [layer.kernel_size for layer in model.layers if hasattr(layer, "kernel_size")] == [(3, 1)] * 4


@pytest.mark.parametrize(
    ("n_models", "used"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 2), (7, 3), (8, 3), (9, 4), (11, 4)]
)
def test_as_many_convolutions_as_fit(n_models: int, used: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = build_cnn(CNNStacker(structure="published", units=4), n_models, n_labels=2)
    assert [name for name, _ in layers_of(model)].count("Conv2D") == used
    assert (f"room for {used} of 4" in caplog.text) == (used < 4)
    assert model.predict_on_batch(np.full((2, n_models, 2, 1), 0.5, np.float32)).shape == (2, 2)


@pytest.mark.parametrize("n_models", [1, 4])
def test_same_padding_uses_all(n_models: int, caplog: pytest.LogCaptureFixture) -> None:
    model = build_cnn(CNNStacker(structure="published", padding="same", units=4), n_models, n_labels=2)
    assert [shape for name, shape in layers_of(model) if name == "Conv2D"][-1] == (n_models, 2, 64)
    assert [name for name, _ in layers_of(model)].count("Conv2D") == 4
    assert not caplog.text


def test_kernel_of_one_and_dropout() -> None:
    model = build_cnn(CNNStacker(structure="published", filters=[2, 2], kernel=1, dropout=0.5, units=4), 1, 3)
    assert [name for name, _ in layers_of(model)][1:] == ["Conv2D", "Conv2D", "Flatten", "Dense", "Dropout", "Dense"]


def test_untrained_answers_are_the_priors() -> None:
    prior = np.array([0.1, 0.5, 0.0], np.float32)
    model = build_cnn(small(), 4, 3, prior=prior)
    found = model.predict_on_batch(np.zeros((1, 4, 3, 1), np.float32))[0]
    np.testing.assert_allclose(found, [0.1, 0.5, 1e-4], rtol=1e-3)


def test_learns_better_than_the_mean_of_the_models() -> None:
    cube, Y = make_data(500, 5, 8)
    stacker = small(epochs=25, learning_rate=3e-3).fit(cube[:350], Y[:350])
    (history,) = stacker.history_
    assert len(history["loss"]) == 25
    assert history["loss"][-1] < history["loss"][0]
    assert not history["held_out"]
    stacked = average_precision_score(Y[350:], stacker.predict_proba(cube[350:]))
    assert stacked > average_precision_score(Y[350:], cube[350:].mean(axis=1))


def test_equal_whatever_ran_before(data: Data) -> None:
    cube, Y = data
    first = small(dropout=0.3).fit(cube, Y)
    small(units=8, weight_decay=0.01).fit(cube[:50, :2], Y[:50])
    import keras

    keras.utils.set_random_seed(99)
    again = small(dropout=0.3).fit(cube, Y)
    assert again.digest() == first.digest()
    assert again.history_ == first.history_
    np.testing.assert_array_equal(again.predict_proba(cube), first.predict_proba(cube))
    assert small(dropout=0.3, seed=1).fit(cube, Y).digest() != first.digest()


def test_logit_inputs_differ_and_stand_extremes(data: Data) -> None:
    cube, Y = data[0].copy(), data[1]
    cube[0], cube[1] = 0, 1
    plain, logit = small().fit(cube, Y), small(inputs="logit").fit(cube, Y)
    assert np.isfinite(logit.predict_proba(cube)).all()
    assert not np.allclose(plain.predict_proba(cube), logit.predict_proba(cube))


@pytest.mark.parametrize(
    ("options", "files"),
    [
        ({}, ["model.keras"]),
        ({"inputs": "logit", "weight_decay": 0.01, "padding": "same", "dropout": 0.2}, ["model.keras"]),
        ({"seeds": 2, "early_stopping": 1}, ["model-0.keras", "model-1.keras"]),
    ],
    ids=["plain", "regularised", "seeds"],
)
def test_save_and_load(data: Data, tmp_path: Path, options: dict[str, object], files: list[str]) -> None:
    cube, Y = data
    stacker = small(**options).fit(cube, Y)
    stacker.save(tmp_path / "a")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["config.json", *files]
    loaded = load_stacker(tmp_path / "a")
    assert isinstance(loaded, CNNStacker)
    assert loaded.get_params() == stacker.get_params()
    assert loaded.digest() == stacker.digest()
    assert loaded.history_ == stacker.history_
    np.testing.assert_array_equal(loaded.predict_proba(cube), stacker.predict_proba(cube))
    small(**options).fit(cube, Y).save(tmp_path / "b")
    for name in ("config.json", *files):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_best_epoch_remains() -> None:
    cube, Y = make_data(90, 3, 4)
    noise = np.random.default_rng(0).integers(0, 2, Y.shape)  # nothing to learn: a held-out row soon says so
    stacker = small(epochs=60, early_stopping=4, holdout=0.3, learning_rate=0.02, units=64, batch_size=16)
    (history,) = stacker.fit(cube, noise).history_
    held_out = history["held_out"]
    assert len(history["loss"]) == len(held_out) < 60
    best = int(np.argmin(held_out))
    assert len(held_out) == best + 1 + 4
    rows = np.sort(np.random.default_rng(0).permutation(90)[:27])
    answers = stacker.predict_proba(cube[rows])
    assert cross_entropy(noise[rows].astype(np.float32), answers) == pytest.approx(held_out[best], rel=1e-6)


def test_training_stops_where_one_ends_it_there(data: Data) -> None:
    cube, Y = data
    long = small(epochs=40, early_stopping=2, holdout=0.25, learning_rate=0.05).fit(cube, Y)
    best = int(np.argmin(long.history_[0]["held_out"])) + 1
    short = small(epochs=best, early_stopping=2, holdout=0.25, learning_rate=0.05).fit(cube, Y)
    assert best < len(long.history_[0]["held_out"])
    np.testing.assert_array_equal(long.predict_proba(cube), short.predict_proba(cube))


def test_several_seeds_answer_with_their_mean(data: Data) -> None:
    cube, Y = data
    together = small(seeds=2, seed=5).fit(cube, Y)
    first, second = (small(seed=seed).fit(cube, Y).predict_proba(cube) for seed in (5, 106))
    assert not np.allclose(first, second)
    np.testing.assert_allclose(together.predict_proba(cube), (first + second) / 2, atol=1e-6)


def test_soft_labels_are_targets(data: Data) -> None:
    cube, Y = data
    soft = np.where(Y > 0, 0.7, 0.2)
    answers = small(epochs=30, learning_rate=0.01).fit(cube, soft).predict_proba(cube)
    assert answers.mean() == pytest.approx(soft.mean(), abs=0.05)
    assert 0.1 < answers.min() < answers.max() < 0.9


@pytest.mark.parametrize(("n", "n_models", "n_labels"), [(1, 1, 1), (2, 3, 1), (40, 1, 5)])
def test_one_image_one_model_one_label(n: int, n_models: int, n_labels: int) -> None:
    cube, Y = make_data(max(n, 2), n_models, n_labels)
    answers = CNNStacker(structure="published", epochs=2, units=4).fit(cube[:n], Y[:n]).predict_proba(cube[:n])
    assert answers.shape == (n, n_labels)
    assert np.isfinite(answers).all()


@pytest.mark.parametrize(("n", "rows"), [(1, 32), (580, 32), (1500, 64), (3000, 128), (7200, 256), (100_000, 256)])
def test_batches_grow_with_the_rows(n: int, rows: int) -> None:
    assert batch_rows(n) == rows


def test_answers_do_not_depend_on_how_they_are_cut(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    stacker = small().fit(*data)
    whole = stacker.predict_proba(data[0])
    monkeypatch.setattr("labelstack.stacking.stackers.cnn_training._PREDICT_VALUES", 24 * 7)
    np.testing.assert_allclose(stacker.predict_proba(data[0]), whole, atol=1e-6)


def test_out_of_fold_resumes_to_the_same_result(data: Data, tmp_path: Path) -> None:
    cube, Y = data
    folds = assign_folds(Y, 2, 0)

    made: list[CNNStacker] = []

    def stopped() -> CNNStacker:
        if len(made) == 2:  # one is asked what it is, the other was for the first fold
            raise KeyboardInterrupt
        made.append(small())
        return made[-1]

    with pytest.raises(KeyboardInterrupt):
        out_of_fold(stopped, cube, Y, folds, test_cube=cube[:7], work=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["fold-0"]
    resumed = out_of_fold(small, cube, Y, folds, test_cube=cube[:7], work=tmp_path)
    whole = out_of_fold(small, cube, Y, folds, test_cube=cube[:7])
    np.testing.assert_array_equal(resumed.oof, whole.oof)
    np.testing.assert_array_equal(resumed.test, whole.test)
    assert resumed.ensemble.digest() == whole.ensemble.digest()
    np.testing.assert_array_equal(resumed.test, resumed.ensemble.predict_proba(cube[:7]))


def test_damaged_files_are_the_users_to_mend(data: Data, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    small(epochs=1).fit(*data).save(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_models": 3}))
    with pytest.raises(UserError, match=r"config\.json says otherwise"):
        load_stacker(folder)
    (folder / "config.json").write_text(json.dumps(config | {"params": {"layers": 3}}))
    with pytest.raises(UserError, match="not a saved CNN stacker"):
        load_stacker(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.keras").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"model\.keras: cannot be loaded"):
        load_stacker(folder)


def test_scikit_learn_manners(data: Data) -> None:
    stacker = small()
    assert clone(stacker).get_params() == stacker.get_params()
    with pytest.raises(NotFittedError):
        stacker.predict_proba(data[0])
    with pytest.raises(ValueError, match="padding"):
        small(padding="valid").fit(*data)
    with pytest.raises(ValueError, match="Y has 119 images"):
        small().fit(data[0], data[1][1:])
    with pytest.raises(ValueError, match="cube holds NaN"):
        small().fit(data[0] * np.nan, data[1])
    with pytest.raises(ValueError, match="Y holds NaN"):
        small().fit(data[0], data[1] * np.nan)


def test_made_from_params_with_the_same_defaults() -> None:
    made, own = make_stacker(CNNStackerSection()).get_params(), CNNStacker().get_params()
    assert made == own


def test_importing_the_room_does_not_import_tensorflow() -> None:
    code = "import sys, labelstack.stacking; print([m for m in ('tensorflow', 'keras', 'xgboost') if m in sys.modules])"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
