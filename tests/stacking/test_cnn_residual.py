"""The CNN stacker that corrects a regression: where it starts, what it learns, one trace for all fits, files."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

from labelstack.params.stackers import CNNStackerSection
from labelstack.stacking import CNNStacker, load_stacker
from labelstack.stacking.sampling import some_rows
from labelstack.stacking.stackers.cnn_cells import Cells, cross_entropy, turns, whole_rows
from labelstack.stacking.stackers.cnn_residual import (
    _KNOWN,
    ResidualNetworks,
    batch_rows,
    build_correction,
    held_rows,
    step_cells,
)
from labelstack.stacking.stackers.cnn_start import _columns, fit_start, left_out_logits, start_logits
from labelstack.stacking.stackers.cnn_steps import Steps
from labelstack.stacking.stackers.linear import LogisticStacker
from labelstack.support.errors import UserError

from .conftest import Data, make_data


def small(**options: object) -> CNNStacker:
    return CNNStacker(**({"filters": [4], "units": 6, "epochs": 3, "early_stopping": None} | options))  # type: ignore


def disagreement(n: int, seed: int = 0) -> Data:
    """A label is true where exactly one of its first two models says so: no weighted sum of logits tells."""
    rng = np.random.default_rng(seed)
    cube = rng.uniform(0.02, 0.98, (n, 4, 6)).astype(np.float32)
    odd = (cube[:, 0] > 0.5) ^ (cube[:, 1] > 0.5)
    return cube, (odd ^ (rng.random(odd.shape) < 0.02)).astype(np.float32)


@pytest.mark.parametrize("start", ["logistic", "mean", "prior"])
def test_without_epochs_the_answer_is_the_start_to_the_bit(data: Data, start: str) -> None:
    cube, Y = data
    stacker = small(epochs=0, start=start, rank=3).fit(cube, Y)
    own = fit_start(start, cube, Y, "")
    assert stacker.start_.digest() == own.digest()
    np.testing.assert_array_equal(stacker.predict_proba(cube), own.predict_proba(cube))
    np.testing.assert_array_equal(expit(start_logits(own, cube)).astype(np.float32), own.predict_proba(cube))


def test_starts(data: Data) -> None:
    cube, Y = data
    prior = (Y.sum(axis=0) + 0.5) / (len(Y) + 1)
    assert small(epochs=0).fit(cube, Y).start_.digest() == LogisticStacker().fit(cube, Y).digest()
    from_prior = small(epochs=0, start="prior").fit(cube, Y).predict_proba(cube)
    np.testing.assert_allclose(from_prior, np.broadcast_to(prior, Y.shape), rtol=1e-5)
    weights = fit_start("mean", cube, Y, "").arrays_["weights"]
    np.testing.assert_allclose(weights[:, :-1], np.broadcast_to(weights[0, :-1], weights[:, :-1].shape), atol=1e-4)
    assert (weights[0, :-1].sum() > 0).all()


def test_left_out_logits_are_those_of_fits_without_the_row() -> None:
    cube, Y = make_data(60, 3, 5)
    start = LogisticStacker(strength=0.3, context=0.25).fit(cube, Y)
    found = left_out_logits(start, cube, Y)
    own, context = _columns(start, cube)
    assert context is not None
    strength, weight = start.arrays_["chosen"]
    penalty = np.r_[
        np.full(own.shape[2], 1 / strength), np.full(context.shape[1], 1 / strength / weight**2), 1 / strength
    ]
    far = []
    for label in range(5):
        X = np.column_stack([own[label], context, np.ones(60)]).astype(float)
        whole = start.arrays_["weights"][label]
        centre = whole + X.T @ (expit(X @ whole) - Y[:, label]) / penalty  # what the penalty must have drawn to
        for row in range(0, 60, 6):
            keep, w = np.arange(60) != row, whole.copy()
            for _ in range(20):
                p = expit(X[keep] @ w)
                hessian = (X[keep].T * (p * (1 - p))) @ X[keep] + np.diag(penalty)
                w -= np.linalg.solve(hessian, X[keep].T @ (p - Y[keep, label]) + penalty * (w - centre))
            moved = abs(X[row] @ w - X[row] @ whole)
            far.append(abs(X[row] @ w - found[row, label]) / max(moved, 0.05))
    assert np.median(far) < 0.1
    assert max(far) < 0.6


def test_learns_what_a_weighted_sum_cannot() -> None:
    cube, Y = disagreement(1200)
    new, answers = disagreement(600, seed=1)
    stacker = CNNStacker(epochs=40).fit(cube, Y)
    (history,) = stacker.history_
    assert len(history["held_out"]) == len(history["loss"]) + 1
    first = cross_entropy(answers, logit(stacker.start_.predict_proba(new).astype(float)))
    last = cross_entropy(answers, logit(np.clip(stacker.predict_proba(new).astype(float), 1e-6, 1 - 1e-6)))
    assert first > 0.65  # a coin's is 0.69
    assert last < 0.45


def test_where_nothing_is_to_be_learnt_the_start_remains() -> None:
    cube = make_data(200, 3, 4)[0]
    noise = np.random.default_rng(0).integers(0, 2, (200, 4)).astype(np.float32)
    stacker = small(early_stopping=2, epochs=50, holdout=0.3, learning_rate=0.05).fit(cube, noise)
    held_out = stacker.history_[0]["held_out"]
    assert len(held_out) < 50
    assert np.argmin(held_out) == len(held_out) - 3
    if np.argmin(held_out) == 0:
        np.testing.assert_array_equal(stacker.predict_proba(cube), stacker.start_.predict_proba(cube))


def architecture(rank: int = 0, **options: object) -> dict[str, object]:
    layers = {"n_models": 4, "n_labels": 3, "channels": 1, "filters": (4,), "kernel": 3, "padding": "fit", "units": 5}
    return {**layers, "rank": rank, "dropout": 0, **options}


def inputs(n: int, rank: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = [(n, 4, 3, 1), (n, 3, _KNOWN), *([(n, 3)] if rank else [])]
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def test_layers() -> None:
    model = build_correction(**architecture(), seed=0)  # type: ignore[arg-type]
    shapes = [(layer.name, tuple(layer.output.shape[1:])) for layer in model.layers if layer.weights]
    assert shapes == [("convolution_1", (2, 3, 4)), ("models", (1, 3, 5)), ("dense", (3, 5)), ("shared", (3, 1))]
    assert model.count_params() == (3 * 4 + 4) + (2 * 4 * 5 + 5) + ((5 + _KNOWN) * 5 + 5) + (5 + 1)
    assert not np.asarray(model(inputs(7))).any()
    blind = build_correction(**architecture(filters=None), seed=0)  # type: ignore[arg-type]
    assert [layer.name for layer in blind.layers if layer.weights] == ["dense", "shared"]


def test_labels_share_weights_but_for_the_low_rank_part() -> None:
    model = build_correction(**architecture(), seed=0)  # type: ignore[arg-type]
    model.get_layer("shared").kernel.assign(np.ones((5, 1), np.float32))
    parts = inputs(7)
    turned = [parts[0][:, :, [2, 0, 1]], parts[1][:, [2, 0, 1]]]
    np.testing.assert_allclose(np.asarray(model(turned)), np.asarray(model(parts))[:, [2, 0, 1]], atol=1e-6)
    model = build_correction(**architecture(rank=2), seed=0)  # type: ignore[arg-type]
    assert model.get_layer("interaction").kernel.shape == (2, 3)


def test_first_gradients_reach_the_readouts_alone() -> None:
    import tensorflow as tf

    model = build_correction(**architecture(rank=2), seed=0)  # type: ignore[arg-type]
    z, y = np.linspace(-2, 2, 21, dtype=np.float32).reshape(7, 3), np.eye(7, 3, dtype=np.float32)
    with tf.GradientTape() as tape:
        logits = z + model(inputs(7, rank=2))
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=logits))
    weights = model.trainable_variables
    gradients = {w.path: gradient for w, gradient in zip(weights, tape.gradient(loss, weights), strict=True)}
    moved = {path for path, gradient in gradients.items() if np.abs(gradient).max() > 0}
    assert moved == {"shared/kernel", "shared/bias", "interaction/kernel", "interaction/bias"}
    assert float(gradients["shared/bias"][0]) == pytest.approx(float((expit(z) - y).mean()), rel=1e-4)


def test_steps_are_those_of_adamw_and_the_mean_is_a_running_one() -> None:
    import keras
    import tensorflow as tf

    parts, y = inputs(24), (np.random.default_rng(1).random((24, 3)) < 0.4).astype(np.float32)
    z = np.zeros((24, 3), np.float32)
    plain, ours, mean = (build_correction(**architecture(), seed=0) for _ in range(3))  # type: ignore[arg-type]
    common = {"held": None, "batch": 8, "patience": None, "learning_rate": 0.01, "weight_decay": 0.1, "description": ""}
    orders = list(islice(turns(np.arange(24), 40, np.random.default_rng(3)), 2))
    shown = [whole_rows(parts, z, y, order) for order in orders]
    steps = Steps(plain)
    steps.run(ours, shown, averaging=0, **common)  # type: ignore[arg-type]
    steps.run(mean, shown, averaging=0.9, **common)  # type: ignore[arg-type]
    optimizer, rng, left = keras.optimizers.AdamW(0.01, weight_decay=0.1), np.random.default_rng(3), np.empty(0, int)
    running = [w.numpy() for w in plain.trainable_variables]
    for t in range(1, 11):
        while len(left) < 8:
            left = np.concatenate([left, rng.permutation(24)])
        rows, left = left[:8], left[8:]
        with tf.GradientTape() as tape:
            logits = z[rows] + plain([each[rows] for each in parts])
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=y[rows], logits=logits))
        optimizer.apply(tape.gradient(loss, plain.trainable_variables), plain.trainable_variables)
        kept = min(0.9, (1 + t) / (10 + t))
        running = [kept * a + (1 - kept) * w.numpy() for a, w in zip(running, plain.trainable_variables, strict=True)]
    for a, b in zip(ours.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    for a, b in zip(mean.get_weights(), running, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_side_by_side_or_one_by_one_after_whatever_gives_the_same_bits(data: Data) -> None:
    cube, Y = data
    parts = [np.arange(len(Y)) % 5 != fold for fold in range(4)]
    parts[3][:20] = False  # another number of rows goes through the same trace

    def fitted(rows: np.ndarray) -> str:
        return small(early_stopping=2, dropout=0.2, seeds=2).fit(cube[rows], Y[rows]).digest()

    alone = [fitted(rows) for rows in parts]
    small(units=3).fit(cube, Y)
    CNNStacker(structure="published", filters=[2], units=2, epochs=1).fit(cube, Y)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(fitted, parts)) == alone
    assert len(set(alone)) == 4


def drawn(n: int, labels: int, steps: int, count: int) -> tuple[Cells, object, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    z, y = rng.normal(-3, 2, (n, labels)), (rng.random((n, labels)) < 0.1).astype(np.float32)

    def places(rows: np.ndarray, columns: np.ndarray) -> list[np.ndarray]:
        return [rows, columns]

    cells = Cells(z, y, np.arange(0, n, 2), places)  # type: ignore[arg-type]
    return cells, cells.drawn(steps, count, np.random.default_rng(1)), z, y


def test_cells_are_drawn_by_error_and_weighed_so_that_sums_are_right() -> None:
    cells, some, z, y = drawn(400, 20, 40, 2000)
    rows, labels = some.inputs  # type: ignore[attr-defined]
    assert not (rows % 2).any()
    np.testing.assert_allclose(some.logits, z[rows, labels], rtol=1e-6)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(some.targets, y[rows, labels])  # type: ignore[attr-defined]
    error = np.abs(y - expit(z))[::2]
    share = np.zeros((400, 20))
    np.add.at(share, (rows, labels), 1)
    expected = error + error.mean() / 4
    assert np.abs(share[::2] - 80_000 * expected / expected.sum()).max() <= 1  # systematic: as often as it should
    correction = np.sin(np.arange(400 * 20.0)).reshape(400, 20).astype(np.float32)
    exact = cross_entropy(y[::2], (z + correction)[::2])
    assert some.loss(correction[rows, labels]) == pytest.approx(exact, rel=0.002)  # type: ignore[attr-defined]
    whole = cells.held(5000, np.random.default_rng(0))
    assert whole.loss(correction[::2].reshape(1, -1)) == pytest.approx(exact, rel=1e-6)
    assert whole.logits.shape == (1, 4000)
    assert cells.held(1000, np.random.default_rng(0)).logits.shape == (1, 1000)


def test_a_label_of_an_image_is_shown_as_it_is_answered(data: Data) -> None:
    """What a step sees of drawn cells is what the network sees of whole images."""
    cube, Y = data
    stacker = small(inputs="both").fit(cube, Y)
    networks = ResidualNetworks(stacker._settled(), stacker.shape_, stacker.start_, stacker.models_)
    first = start_logits(stacker.start_, cube)
    whole = networks._arrays(cube, first)
    epochs, held, batch = networks._cells(cube, first, Y)(np.arange(5), np.random.default_rng(0))
    assert batch == 1
    np.testing.assert_array_equal(
        held.inputs[0][0], whole[0][:5].transpose(1, 0, 2, 3).reshape(whole[0].shape[1], -1, 2)
    )
    np.testing.assert_array_equal(held.inputs[1][0], whole[1][:5].reshape(-1, _KNOWN))
    some = next(epochs)
    assert some.logits.shape == (16, step_cells(*Y.shape))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rank": 2, "inputs": "both", "padding": "same", "dropout": 0.2},
        {"seeds": 2, "filters": [], "start": "mean"},
    ],
    ids=["plain", "everything", "seeds"],
)
def test_save_and_load(data: Data, tmp_path: Path, options: dict[str, object]) -> None:
    cube, Y = data
    stacker = small(**options).fit(cube, Y)
    stacker.save(tmp_path / "a")
    loaded = load_stacker(tmp_path / "a")
    assert isinstance(loaded, CNNStacker)
    assert loaded.get_params() == stacker.get_params()
    assert loaded.digest() == stacker.digest()
    np.testing.assert_array_equal(loaded.predict_proba(cube), stacker.predict_proba(cube))
    small(**options).fit(cube, Y).save(tmp_path / "b")
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert {"config.json", "start/arrays.zip", "start/config.json"} < {str(path) for path in files}
    for path in files:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()


def test_what_was_saved_before_there_were_structures_has_the_published_layers(data: Data, tmp_path: Path) -> None:
    cube, Y = data
    own = {"filters": [4, 8], "units": 16, "epochs": 1, "learning_rate": 0.001, "inputs": "logit"}
    stacker = CNNStacker(structure="published", **own).fit(cube, Y)  # type: ignore[arg-type]
    stacker.save(tmp_path / "s")
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["config.json", "model.keras"]
    params = json.loads((tmp_path / "s/config.json").read_text())["params"]
    before = {
        "kernel",
        "padding",
        "dropout",
        "batch_size",
        "early_stopping",
        "holdout",
        "weight_decay",
        "seeds",
        "seed",
    }
    assert {*params} == before | {*own}
    loaded = load_stacker(tmp_path / "s")
    assert loaded.structure == "published"  # type: ignore[union-attr]
    assert loaded.digest() == stacker.digest()
    np.testing.assert_array_equal(loaded.predict_proba(cube), stacker.predict_proba(cube))


def test_a_start_of_another_shape_is_refused(data: Data, tmp_path: Path) -> None:
    cube, Y = data
    small(epochs=0).fit(cube, Y).save(tmp_path / "s")
    LogisticStacker().fit(cube[:, :2], Y).save(tmp_path / "s/start")
    with pytest.raises(UserError, match="start: is of"):
        load_stacker(tmp_path / "s")


def test_learns_from_rows_drawn_and_answers_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    cube, Y = make_data(300, 4, 6)
    drawn = some_rows(300, 100)
    few = small(rows=100).fit(cube, Y)
    np.testing.assert_array_equal(few.predict_proba(cube), small().fit(cube[drawn], Y[drawn]).predict_proba(cube))
    whole = few.predict_proba(cube)
    monkeypatch.setattr("labelstack.stacking.stackers.cnn_residual.CELLS", 24 * 70)
    np.testing.assert_allclose(few.predict_proba(cube), whole, atol=1e-6)


@pytest.mark.parametrize(("n", "n_models", "n_labels"), [(1, 1, 1), (2, 3, 1), (40, 1, 5), (40, 2, 3)])
def test_one_image_one_model_one_label(n: int, n_models: int, n_labels: int) -> None:
    cube, Y = make_data(max(n, 2), n_models, n_labels)
    answers = CNNStacker(epochs=2).fit(cube[:n], Y[:n]).predict_proba(cube[:n])
    assert answers.shape == (n, n_labels)
    assert np.isfinite(answers).all()


def test_extreme_probabilities_and_soft_labels(data: Data) -> None:
    cube, Y = data[0].copy(), np.where(data[1] > 0, 0.7, 0.2)
    cube[0], cube[1] = 0, 1
    answers = small(inputs="both").fit(cube, Y).predict_proba(cube)
    assert np.isfinite(answers).all()
    assert answers.mean() == pytest.approx(Y.mean(), abs=0.05)


@pytest.mark.parametrize(
    ("n", "labels", "rows", "held"),
    [
        (1, 1, 256, 1),
        (580, 14, 256, 58),
        (450, 44, 64, 45),
        (1200, 374, 16, 120),
        (7200, 228, 64, 438),
        (90_000, 1103, 16, 200),
    ],
)
def test_rows_of_a_step_and_to_stop_by(n: int, labels: int, rows: int, held: int) -> None:
    assert batch_rows(n, labels) == rows
    assert held_rows(n, labels, 0.1) == held
    assert held_rows(n, labels, 0) == 0


def test_null_means_what_the_structure_has() -> None:
    residual, published = CNNStackerSection().settled(), CNNStackerSection(structure="published").settled()
    assert (residual["filters"], residual["inputs"]) == ([16, 32], "logit")
    assert (published["filters"], published["units"], published["inputs"]) == ([8, 16, 32, 64], 1024, "probability")
    assert (
        CNNStackerSection(units=7, filters=[]).settled() | {"units": 7, "filters": []}
        == CNNStackerSection(units=7, filters=[]).settled()
    )
    with pytest.raises(ValueError, match="inputs: both needs structure: residual"):
        CNNStackerSection(structure="published", inputs="both")
