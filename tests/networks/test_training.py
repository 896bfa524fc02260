"""Training learns, resumes bit for bit, stops early and restores the best epoch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.metrics import average_precision_score

from labelstack.networks.checkpoint import CheckpointFolder
from labelstack.networks.inference import compile_predict, load_model, predict, weights_digest
from labelstack.networks.learner import make_optimizer
from labelstack.networks.tasks import multi_label
from labelstack.networks.training import TrainResult, train
from labelstack.params.metric import MetricSection
from labelstack.params.models import HeadSection, ModelSection, ScheduleSection
from labelstack.params.training import TrainingSection
from labelstack.scoring.metric import THRESHOLD_GRID
from labelstack.scoring.metrics import f_beta
from labelstack.support.errors import UserError
from networks.tiny_training import N_LABELS, SIZE, ArrayBatches, built, draw, tiny

PRIOR = np.full(N_LABELS, 0.4, np.float32)


class Killed(Exception):
    """Stands for the end of the process."""


def run(
    params: ModelSection, training: TrainingSection, batches: ArrayBatches, holdout, work: Path, **more
) -> TrainResult:
    arguments = {"n_labels": N_LABELS, "prior": PRIOR, "seed": 7} | more
    return train(params, training, batches, holdout, work=work, **arguments)


def interrupted_then_resumed(params, training, batches, holdout, work: Path, after: int, **more) -> TrainResult:
    def kill(epoch: int, record: dict[str, float]) -> None:
        if epoch == after:
            raise Killed

    with pytest.raises(Killed):
        run(params, training, batches, holdout, work, on_epoch=kill, **more)
    return run(params, training, batches, holdout, work, **more)


def assert_same(one: TrainResult, other: TrainResult) -> None:
    for a, b in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
        assert np.array_equal(a, b)
    timeless = [column for column in one.history.columns if column != "seconds"]
    assert one.history[timeless].equals(other.history[timeless])
    assert one.best_epoch == other.best_epoch


def test_learns_and_reports(batches, holdout, training, tmp_path):
    calls = []
    result = run(
        tiny(epochs=10),
        training,
        batches,
        holdout,
        tmp_path,
        on_epoch=lambda epoch, record: calls.append((epoch, record)),
    )
    history = result.history
    assert list(history.columns) == [
        "epoch",
        "loss",
        "learning_rate",
        "seconds",
        "holdout_loss",
        "holdout_samples_f1",
        "holdout_threshold",
    ]
    assert [epoch for epoch, _ in calls] == list(range(1, 11)) == history["epoch"].tolist()
    assert calls[3][1]["loss"] == history["loss"][3]
    assert history["loss"].iloc[-1] < 0.8 * history["loss"][0]
    assert history["holdout_samples_f1"].max() > 0.7
    assert result.best_epoch == history["holdout_samples_f1"].to_numpy().argmax() + 1
    probability = compile_predict(result.model)(holdout[0])
    best = history.iloc[result.best_epoch - 1]
    clipped = np.clip(probability, 1e-7, 1 - 1e-7)
    y = holdout[1]
    loss = -(y * np.log(clipped) + (1 - y) * np.log1p(-clipped)).mean()
    assert loss == pytest.approx(best["holdout_loss"], rel=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"ema": 0.9, "mixup": 0.4, "label_smoothing": 0.1, "schedule": ScheduleSection(kind="cosine", warmup_epochs=1)},
        {"optimizer": "adamw", "weight_decay": 0.01, "schedule": ScheduleSection(kind="plateau", patience=1)},
        {
            "optimizer": "sgd",
            "loss": "balanced_bce",
            "schedule": ScheduleSection(kind="warm_restarts", restart_epochs=3),
        },
    ],
    ids=["adam+ema+mixup+cosine", "adamw+plateau", "sgd+balanced+restarts"],
)
def test_resumed_equals_uninterrupted(changes, batches, holdout, training, tmp_path):
    params = tiny(**changes)
    whole = run(params, training, batches, holdout, tmp_path / "whole")
    broken = interrupted_then_resumed(params, training, batches, holdout, tmp_path / "broken", after=2)
    assert_same(whole, broken)


@pytest.mark.parametrize(
    ("metric", "column"),
    [
        (MetricSection(primary="samples", beta=2), "holdout_samples_f2"),
        (MetricSection(primary="macro", beta=1), "holdout_macro_f1"),
        (MetricSection(primary="micro", beta=0.5), "holdout_micro_f0.5"),
    ],
)
def test_the_holdout_is_judged_by_the_metric(metric, column, batches, holdout, training, tmp_path):
    result = run(tiny(epochs=3), training, batches, holdout, tmp_path, metric=metric)
    history = result.history
    assert [name for name in history if name.startswith("holdout")] == ["holdout_loss", column, "holdout_threshold"]
    assert result.best_epoch == history[column].to_numpy().argmax() + 1
    probability = compile_predict(result.model)(holdout[0])
    y, best = holdout[1].astype(bool), history.iloc[result.best_epoch - 1]
    scores = [f_beta(y, probability >= t, average=metric.primary, beta=metric.beta) for t in THRESHOLD_GRID]
    assert best[column] == max(scores)
    assert best["holdout_threshold"] == THRESHOLD_GRID[np.argmax(scores)]


def test_another_metric_changes_what_is_best_but_no_step(batches, holdout, training, tmp_path):
    f1 = run(tiny(epochs=6), training, batches, holdout, tmp_path / "f1").history
    recall = run(
        tiny(epochs=6), training, batches, holdout, tmp_path / "recall", metric=MetricSection(primary="macro", beta=9)
    )
    for column in ("loss", "holdout_loss"):
        assert f1[column].equals(recall.history[column])
    assert (recall.history["holdout_macro_f9"] != f1["holdout_samples_f1"]).any()


def test_a_ranking_is_judged_without_a_threshold(batches, holdout, training, tmp_path):
    metric = MetricSection(primary="mean_average_precision")
    result = run(tiny(epochs=3), training, batches, holdout, tmp_path, metric=metric)
    history = result.history
    assert [name for name in history if name.startswith("holdout")] == [
        "holdout_loss",
        "holdout_mean_average_precision",
    ]
    best = history["holdout_mean_average_precision"]
    assert result.best_epoch == best.to_numpy().argmax() + 1
    score = average_precision_score(holdout[1], compile_predict(result.model)(holdout[0]), average="macro")
    assert best.max() == pytest.approx(score, abs=1e-6)


def test_a_checkpoint_of_another_metric_is_not_resumed(batches, holdout, training, tmp_path):
    epochs = []
    run(tiny(epochs=2), training, batches, holdout, tmp_path, on_epoch=lambda epoch, _: epochs.append(epoch))
    again = run(
        tiny(epochs=2), training, batches, holdout, tmp_path, metric=MetricSection(primary="micro", beta=2),
        on_epoch=lambda epoch, _: epochs.append(epoch),
    )  # fmt: skip
    assert epochs == [1, 2, 1, 2]
    assert again.history["holdout_micro_f2"].notna().all()
    assert "holdout_samples_f1" not in again.history


def test_without_a_holdout_the_metric_decides_nothing(batches, training, tmp_path):
    run(tiny(epochs=1), training, batches, None, tmp_path)
    epochs = []
    run(
        tiny(epochs=1), training, batches, None, tmp_path, metric=MetricSection(primary="macro", beta=2),
        on_epoch=lambda epoch, _: epochs.append(epoch),
    )  # fmt: skip
    assert epochs == []


def test_kill_nine_then_resume(batches, holdout, training, tmp_path):
    params = tiny(ema=0.9, mixup=0.2)
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from networks.tiny_training import ArrayBatches, draw, tiny
from networks.test_training import run
from labelstack.params.training import TrainingSection
from pathlib import Path
def kill(epoch, record):
    if epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)
run(tiny(ema=0.9, mixup=0.2), TrainingSection(patience=None), ArrayBatches(*draw(28)), draw(20, seed=1),
    Path({str(tmp_path / "broken")!r}), on_epoch=kill)
"""
    ended = subprocess.run([sys.executable, "-c", script], env=os.environ, capture_output=True, timeout=1500)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-2000:]
    whole = run(params, training, batches, holdout, tmp_path / "whole")
    assert_same(whole, run(params, training, batches, holdout, tmp_path / "broken"))


def test_damaged_checkpoint_falls_back_to_the_one_before(batches, holdout, training, tmp_path, caplog):
    params = tiny()
    whole = run(params, training, batches, holdout, tmp_path / "whole")
    work = tmp_path / "broken"
    with pytest.raises(Killed):
        run(params, training, batches, holdout, work, on_epoch=_kill_after(3))
    newest = work / "epoch-00003.npz"
    newest.write_bytes(newest.read_bytes()[:-2000])
    epochs = []
    resumed = run(params, training, batches, holdout, work, on_epoch=lambda epoch, _: epochs.append(epoch))
    assert epochs == [3, 4]
    assert "epoch-00003.npz: passed over" in caplog.text
    assert_same(whole, resumed)


def _kill_after(last: int):
    def kill(epoch: int, record: dict[str, float]) -> None:
        if epoch == last:
            raise Killed

    return kill


def test_finished_training_is_not_repeated(batches, holdout, training, tmp_path):
    params = tiny(epochs=2)
    first = run(params, training, batches, holdout, tmp_path)
    epochs = []
    again = run(params, training, batches, holdout, tmp_path, on_epoch=lambda epoch, _: epochs.append(epoch))
    assert epochs == []
    assert_same(first, again)
    assert first.history["seconds"].equals(again.history["seconds"])


def test_other_params_do_not_resume(batches, training, tmp_path, caplog):
    run(tiny(epochs=1), training, batches, None, tmp_path)
    epochs = []
    run(tiny(epochs=1, learning_rate=0.02), training, batches, None, tmp_path, on_epoch=lambda e, _: epochs.append(e))
    assert epochs == [1]
    assert "other params" in caplog.text
    epochs.clear()
    workers = training.model_copy(update={"workers": 3})
    run(tiny(epochs=1, learning_rate=0.02), workers, batches, None, tmp_path, on_epoch=lambda e, _: epochs.append(e))
    assert epochs == []


@pytest.mark.parametrize(
    ("metric", "column"),
    [
        (MetricSection(primary="samples", beta=2), "holdout_samples_f2"),
        (MetricSection(primary="mean_average_precision"), "holdout_mean_average_precision"),
    ],
)
def test_early_stopping_goes_by_the_metric(metric, column, batches, holdout, tmp_path):
    result = run(
        tiny(epochs=30, learning_rate=0.05), TrainingSection(patience=2), batches, holdout, tmp_path, metric=metric
    )
    scores = result.history[column].to_numpy()
    behind = [epoch for epoch in range(1, len(scores) + 1) if epoch - (scores[:epoch].argmax() + 1) >= 2]
    assert behind == [len(scores)]
    assert len(scores) < 30
    assert result.best_epoch == len(scores) - 2


def test_early_stopping_and_its_resume(batches, holdout, tmp_path):
    training = TrainingSection(patience=2)
    params = tiny(epochs=30, learning_rate=0.05)
    whole = run(params, training, batches, holdout, tmp_path / "whole")
    length = len(whole.history)
    assert length < 30
    assert whole.best_epoch == length - 2
    broken = interrupted_then_resumed(params, training, batches, holdout, tmp_path / "broken", after=length - 1)
    assert_same(whole, broken)


def test_without_holdout_the_last_epoch_counts(batches, training, tmp_path):
    result = run(tiny(epochs=2, ema=0.9), training, batches, None, tmp_path)
    assert result.best_epoch == 2
    assert "holdout_samples_f1" not in result.history
    state = CheckpointFolder(tmp_path, _fingerprint_of(tmp_path)).latest().state
    averages = [state[f"average/{i:05d}"] for i in range(len(result.model.get_weights()))]
    raw = [state[f"weight/{i:05d}"] for i in range(len(averages))]
    for weight, average in zip(result.model.get_weights(), averages, strict=True):
        assert np.array_equal(weight, average)
    assert any(not np.array_equal(a, b) for a, b in zip(raw, averages, strict=True))


def _fingerprint_of(work: Path) -> str:
    import json

    with np.load(next(work.glob("epoch-*.npz"))) as content:
        return json.loads(content["__meta__"].tobytes())["fingerprint"]


def test_holdout_in_batches_equals_holdout_in_memory(batches, holdout, training, tmp_path):
    images, targets = holdout
    params = tiny(epochs=2)
    parts = (lambda: iter([images[:8], images[8:16], images[16:]]), targets)
    assert_same(
        run(params, training, batches, holdout, tmp_path / "a"), run(params, training, batches, parts, tmp_path / "b")
    )
    short = (lambda: iter([images[:8]]), targets)
    with pytest.raises(ValueError, match="8 images for 20 rows"):
        run(params, training, batches, short, tmp_path / "c")


def test_seed_decides(batches, training, tmp_path):
    digests = [
        weights_digest(run(tiny(epochs=1), training, batches, None, tmp_path / str(i), seed=seed).model)
        for i, seed in enumerate([1, 1, 2])
    ]
    assert digests[0] == digests[1] != digests[2]


def test_divergence_is_told(batches, training, tmp_path):
    with pytest.raises(UserError, match=r"training diverged.*learning_rate"):
        run(tiny(optimizer="sgd", learning_rate=10.0, weight_decay=1.0, epochs=40), training, batches, None, tmp_path)


def test_no_images(training, tmp_path):
    images, targets = draw(8)
    with pytest.raises(UserError, match="no images"):
        run(tiny(), training, ArrayBatches(images[:0], targets[:0]), None, tmp_path)


@pytest.mark.parametrize(
    ("precision", "scaled"), [(True, True), ("float16", True), ("bfloat16", False)], ids=["true", "float16", "bfloat16"]
)
def test_mixed_precision_trains_and_resumes(batches, holdout, tmp_path, precision, scaled):
    import keras

    training = TrainingSection(patience=None, mixed_precision=precision)
    params = tiny(epochs=2)
    optimizer = make_optimizer(params, training.mixed_precision)
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer) is scaled
    whole = run(params, training, batches, holdout, tmp_path / "whole")
    assert keras.config.dtype_policy().name == "float32"
    body = whole.model.get_layer("backbone").get_layer("body")
    inside = {layer.compute_dtype for layer in body.layers if isinstance(layer, keras.layers.Conv2D)}
    assert inside == {"float16" if scaled else "bfloat16"}
    assert whole.history["loss"].iloc[-1] < whole.history["loss"][0]
    _, probability = predict(whole.model, [(np.arange(20), holdout[0])])
    assert probability.dtype == np.float32
    assert_same(whole, interrupted_then_resumed(params, training, batches, holdout, tmp_path / "broken", after=1))


def test_float16_is_another_name_of_true():
    assert TrainingSection(mixed_precision="float16") == TrainingSection(mixed_precision=True)


@pytest.mark.slow
def test_a_compiled_step_learns_resumes_and_is_another_training(batches, holdout, tmp_path):
    training = TrainingSection(patience=None, jit_compile=True)
    params = tiny(backbone="pixels", options={}, epochs=2, ema=0.9, hard_examples=0.3)
    whole = run(params, training, batches, holdout, tmp_path / "whole")
    assert whole.history["loss"].iloc[-1] < whole.history["loss"][0]
    assert_same(whole, interrupted_then_resumed(params, training, batches, holdout, tmp_path / "broken", after=1))
    steady = tiny(backbone="pixels", options={}, epochs=2, head=HeadSection(units=[16], dropout=0))  # XLA drops others
    plain, compiled = (
        run(steady, each, batches, holdout, tmp_path / f"{each.jit_compile}")
        for each in (TrainingSection(patience=None), training)
    )
    np.testing.assert_allclose(plain.history["loss"], compiled.history["loss"], rtol=1e-3)
    assert "jit_compile" not in TrainingSection().deciding
    assert training.deciding["jit_compile"] is True


def test_a_network_that_cannot_be_compiled_is_told(batches, tmp_path):
    training = TrainingSection(patience=None, jit_compile=True)
    with pytest.raises(UserError, match=r"training\.jit_compile: XLA does not compile this network \(.*MaxPool"):
        run(tiny(epochs=1), training, batches, None, tmp_path)


TWO_DEVICES = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
import labelstack.networks
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from networks.tiny_training import ArrayBatches, draw, tiny
from networks.test_training import assert_same, interrupted_then_resumed, run
from labelstack.networks.inference import save_model
from labelstack.params.training import TrainingSection
work = Path(sys.argv[1])
assert tf.distribute.MirroredStrategy().num_replicas_in_sync == 2
data = ArrayBatches(*draw(25)), draw(20, seed=1)  # the last batch holds one image for two devices
training, params = TrainingSection(patience=None, multi_gpu=True), tiny(ema=0.9, epochs=2)
whole = run(params, training, *data, work / "whole")
"""


def on_two_devices(script: str, work: Path) -> None:
    command = [sys.executable, "-c", TWO_DEVICES + script, str(work)]
    ended = subprocess.run(command, env=os.environ, capture_output=True, timeout=1500, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]


def test_two_devices_learn_and_give_a_plain_model(holdout, tmp_path):
    script = """
assert whole.history["loss"].iloc[-1] < whole.history["loss"][0], whole.history
save_model(whole.model, work / "model.keras")
whole.history.to_csv(work / "history.csv")
"""
    on_two_devices(script, tmp_path)
    _, probability = predict(load_model(tmp_path / "model.keras"), [(np.arange(20), holdout[0])])
    best = pd.read_csv(tmp_path / "history.csv").sort_values("holdout_samples_f1", kind="stable").iloc[-1]
    chosen = f_beta(holdout[1].astype(bool), probability >= best["holdout_threshold"], average="samples", beta=1.0)
    assert chosen == pytest.approx(best["holdout_samples_f1"], abs=0.01)


@pytest.mark.slow
def test_two_devices_resume(tmp_path):
    script = """
resumed = interrupted_then_resumed(params, training, *data, work / "broken", 1)
for name, result in (("whole", whole), ("resumed", resumed)):
    np.savez(work / name, *result.model.get_weights())
    result.history.drop(columns="seconds").to_csv(work / f"{name}.csv")
"""
    on_two_devices(f"import numpy as np{script}", tmp_path)
    assert (tmp_path / "resumed.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / "resumed.npz") as resumed:
        assert whole.files == resumed.files != []
        for name in whole.files:
            assert np.array_equal(whole[name], resumed[name])


def test_one_trace_for_all_batches_and_epochs(batches, tmp_path):
    from labelstack.networks.learner import Learner, make_optimizer

    params = tiny()
    traced = []
    base = multi_label(params, N_LABELS).loss

    def loss(targets, logits, known):
        traced.append(1)
        return base(targets, logits, known)

    learner = Learner(built(params, N_LABELS), make_optimizer(params, False), loss)
    for epoch in range(2):
        for images, targets in batches.epoch(epoch):
            learner.step(images, targets, 0.001)
    assert len(traced) == 1
    assert images.shape == (4, SIZE, SIZE, 3)


def test_first_epoch_of_a_dropout_net_depends_on_the_epoch_number(batches):
    from labelstack.networks.learner import Learner, make_optimizer

    params = tiny(head=HeadSection(units=[16], dropout=0.5), optimizer="sgd")
    learner = Learner(built(params, N_LABELS), make_optimizer(params, False), multi_label(params, N_LABELS).loss)
    start = learner.state()
    images, targets = next(batches.epoch(0))
    losses = []
    for epoch in [0, 0, 1]:
        learner.restore(start)
        learner.reseed(3, epoch)
        losses.append(float(learner.step(images, targets, 0.0)))
    assert losses[0] == losses[1] != losses[2]
    with pytest.raises(ValueError, match="another network"):
        learner.restore({"steps": start["steps"]})


def test_operations_are_deterministic_after_training(batches, training, tmp_path):
    run(tiny(epochs=1), training, batches, None, tmp_path)
    with pytest.raises(ValueError, match="determinism is enabled"):  # an operation that needs a seed then
        tf.image.sample_distorted_bounding_box([4, 4, 3], tf.zeros([0, 0, 4]), use_image_if_no_bounding_boxes=True)
