"""Training and evaluation batches: repeatable, complete, the same for any number of workers."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from numpy.typing import NDArray

from images.server import jpeg, picture
from labelstack.images.loader import TrainingBatches, _ShardRows, evaluation_batches
from labelstack.images.pixels.decode import decode
from labelstack.images.shards.fill import download_split
from labelstack.images.shards.shard_files import read_shard, shard_paths
from labelstack.images.workers import Portion, WorkerPool
from labelstack.params.augment import AugmentSection
from labelstack.params.images import ImagesSection
from labelstack.support.box import Box
from labelstack.support.errors import UserError

Make = Callable[..., Path]
Epoch = list[tuple[NDArray[np.uint8], NDArray[np.float32]]]
LIGHT: dict[str, Any] = {"augment": None, "cache_bytes": 0}  # work for workers, who start sooner without imgaug


def loader(shards: Path, ids: NDArray[np.int64], **changes: Any) -> TrainingBatches:
    """Batches whose target is the image's id."""
    options: dict[str, Any] = {
        "size": 16, "batch_size": 8, "seed": 1, "augment": AugmentSection(), "workers": 0, "shuffle_shards": 2
    }  # fmt: skip
    targets = np.stack([ids, -ids], axis=1).astype(np.float32)
    return TrainingBatches(shards, ids, targets, **{**options, **changes})


def drawn(shards: Path, ids: NDArray[np.int64], *epochs: int, **changes: Any) -> list[Epoch]:
    with loader(shards, ids, **changes) as batches:
        return [list(batches.epoch(number)) for number in epochs]


def same(a: Epoch, b: Epoch) -> bool:
    return len(a) == len(b) and all(
        np.array_equal(x, u) and np.array_equal(y, v) for (x, y), (u, v) in zip(a, b, strict=True)
    )


def ids_of(epoch: Epoch) -> list[int]:
    return [int(value) for _, targets in epoch for value in targets[:, 0]]


def test_an_epoch_is_every_image_once_with_its_target(make_shards: Make) -> None:
    shards, ids = make_shards(45, absent=(4, 30)), np.array([i for i in range(45, 0, -2) if i != 4])
    stored = {
        int(image_id): data
        for path in shard_paths(shards)
        for image_id, data in zip(read_shard(path).image_id, read_shard(path).bytes, strict=True)
    }
    batches = loader(shards, ids, augment=None)
    epoch = list(batches.epoch(0))
    assert [len(x) for x, _ in epoch] == [8, 8, 7]
    assert batches.steps_per_epoch == 3
    assert sorted(ids_of(epoch)) == sorted(ids.tolist())
    for images, targets in epoch:
        assert images.dtype == np.uint8
        assert targets.dtype == np.float32
        for image, target in zip(images, targets, strict=True):
            assert (image == decode(stored[int(target[0])] or b"", 16)).all()
            assert target[1] == -target[0]


@pytest.mark.parametrize("cache_bytes", [0, 10**9], ids=["from shards", "kept"])
@pytest.mark.parametrize("augment", [AugmentSection(), None], ids=["augmented", "plain"])
def test_workers_cache_and_history_do_not_matter(
    make_shards: Make, cache_bytes: int, augment: AugmentSection | None
) -> None:
    shards, ids = make_shards(45), np.arange(1, 46)
    expected = drawn(shards, ids, 0, 1, augment=augment)
    for workers in (1, 2) if cache_bytes else (2,):
        got = drawn(shards, ids, 1, 0, workers=workers, cache_bytes=cache_bytes, augment=augment)
        assert same(got[0], expected[1])
        assert same(got[1], expected[0])
    assert same(drawn(shards, ids, 1, augment=augment, cache_bytes=cache_bytes)[0], expected[1])


def test_epochs_and_seeds_differ(make_shards: Make) -> None:
    shards, ids = make_shards(30), np.arange(1, 31)
    first, second = drawn(shards, ids, 0, 1)
    (other,) = drawn(shards, ids, 0, seed=2)
    assert ids_of(first) != ids_of(second)
    assert ids_of(first) != ids_of(other)
    plain = drawn(shards, ids, 0, augment=None)[0]
    assert ids_of(plain) == ids_of(first)
    assert not same(plain, first)


def test_rows_are_shuffled_within_windows_of_shards(make_shards: Make) -> None:
    shards, ids = make_shards(40), np.arange(1, 41)
    (epoch,) = drawn(shards, ids, 0, shuffle_shards=1, augment=None)
    order = (np.array(ids_of(epoch)) - 1).reshape(4, 10)
    assert all(len(set(window // 10)) == 1 for window in order)
    assert any(list(window) != sorted(window) for window in order)
    (wide,) = drawn(shards, ids, 0, shuffle_shards=4, augment=None)
    assert len({(image_id - 1) // 10 for image_id in ids_of(wide)[:10]}) > 1


def test_an_epoch_left_early_does_no_harm(make_shards: Make) -> None:
    shards, ids = make_shards(40), np.arange(1, 41)
    (expected,) = drawn(shards, ids, 3, **LIGHT)
    with loader(shards, ids, workers=2, **LIGHT) as batches:
        iterator = batches.epoch(2)
        next(iterator)
        iterator.close()
        assert same(list(batches.epoch(3)), expected)


def test_the_batch_size_does_not_change_what_becomes_of_an_image(make_shards: Make) -> None:
    shards, ids = make_shards(90), np.arange(1, 91)
    small, large = (drawn(shards, ids, 1, batch_size=size)[0] for size in (7, 70))
    for a, b in zip(zip(*small, strict=True), zip(*large, strict=True), strict=True):
        assert np.array_equal(np.concatenate(a), np.concatenate(b))


def test_a_subset_is_augmented_as_in_the_whole(make_shards: Make) -> None:
    shards, ids = make_shards(40), np.arange(1, 41)
    whole, part = drawn(shards, ids, 2)[0], drawn(shards, ids[::3], 2)[0]
    images = {int(y[0]): x for xs, ys in whole for x, y in zip(xs, ys, strict=True)}
    for xs, ys in part:
        for x, y in zip(xs, ys, strict=True):
            assert (x == images[int(y[0])]).all()


@pytest.mark.parametrize(("batch_size", "asked_for"), [(16, 5), (100, 3)])
def test_batches_ahead_are_bounded(
    make_shards: Make, monkeypatch: pytest.MonkeyPatch, batch_size: int, asked_for: int
) -> None:
    asked: list[int] = []
    submit = WorkerPool.submit
    monkeypatch.setattr(
        WorkerPool, "submit", lambda self, task, out: asked.append(len(task.images)) or submit(self, task, out)
    )
    shards, ids = make_shards(400, shard_rows=200), np.arange(1, 401)
    with loader(shards, ids, workers=1, batch_size=batch_size, **LIGHT) as batches:
        iterator = batches.epoch(0)
        next(iterator)
        time.sleep(0.3)
        assert sum(asked) == asked_for * batch_size
        assert max(asked) <= 32


def test_a_window_is_let_go_before_the_next_is_read(make_shards: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    gone: list[int] = []
    most: list[int] = []

    class Jpeg(bytes):
        def __del__(self) -> None:
            gone.append(1)

    def read(self: Any) -> list[bytes]:
        jpegs: list[bytes] = [Jpeg(data) for data in real(self)]
        made.extend([1] * len(jpegs))
        most.append(len(made) - len(gone))
        return jpegs

    real = _ShardRows.read
    monkeypatch.setattr(_ShardRows, "read", read)
    with loader(make_shards(80), np.arange(1, 81), shuffle_shards=2, cache_bytes=0) as batches:
        assert len(list(batches.epoch(0))) == 10
    assert len(made) == len(gone) == 80
    assert max(most) <= 20 + 2 * 8  # a window, what is left of the one before, and the batch in hand


def test_images_that_are_not_there_are_named(make_shards: Make) -> None:
    shards = make_shards(12, absent=(7,))
    with pytest.raises(UserError, match=r"2 of 3 images were not downloaded \(ids 7, 99"):
        loader(shards, np.array([3, 7, 99]))
    with pytest.raises(ValueError, match="unique"):
        loader(shards, np.array([3, 3]))
    with pytest.raises(ValueError, match="do not fit"):
        TrainingBatches(shards, np.array([3]), np.zeros((2, 1), np.float32), size=8, batch_size=1, seed=0, augment=None)


def typed(process: psutil.Process) -> str:
    """A process's command line; empty of one that has ended, as another test of this process may have left behind."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def test_a_dead_worker_is_a_clear_error(make_shards: Make) -> None:
    with loader(make_shards(40), np.arange(1, 41), workers=2, **LIGHT) as batches:
        iterator = batches.epoch(0)
        next(iterator)
        workers = [child for child in psutil.Process().children() if "labelstack.images.workers" in typed(child)]
        assert len(workers) == 2
        for worker in workers:
            worker.kill()
        with pytest.raises(UserError, match="ended by signal 9"):
            list(itertools.chain(iterator, *(batches.epoch(number) for number in range(1, 20))))


def ask(pool: WorkerPool, image: Any, *, decoded: bool) -> NDArray[np.uint8]:
    out = np.empty((1, 8, 8, 3), np.uint8)
    pool.submit(Portion([image], np.array([5]), 0, np.array([[8, 8]]) if decoded else None), out).result()
    return out[0]


def test_an_error_in_a_worker_is_told_and_the_worker_lives_on() -> None:
    pool = WorkerPool(1, 8, None)
    try:
        with pytest.raises(UserError, match="not an image"):
            ask(pool, b"no jpeg", decoded=False)
        pixels = picture(0, 8, 8)
        assert (ask(pool, pixels.data, decoded=True) == pixels).all()
        stored = jpeg(3)
        assert (ask(pool, memoryview(stored), decoded=False) == decode(stored, 8)).all()
    finally:
        pool.close()


def test_a_worker_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelstack.images.workers._START", "import sys; sys.exit(3)")
    pool = WorkerPool(1, 8, None)
    try:
        with pytest.raises(UserError, match="ended with code 3"):
            ask(pool, picture(0, 8, 8).data, decoded=True)
    finally:
        pool.close()


_SCRIPT = """
import sys, numpy as np
import pathlib
MARK = pathlib.Path(sys.argv[2]); MARK.write_text(MARK.read_text() + "x" if MARK.exists() else "x")
from labelstack.images.loader import TrainingBatches
ids = np.arange(1, 21)
batches = TrainingBatches(pathlib.Path(sys.argv[1]), ids, ids[:, None].astype("float32"), size=16, batch_size=8,
                          seed=1, augment=None, cache_bytes=0, workers=2)
print(sum(int(x.sum()) for x, _ in batches.epoch(0)), *[p.pid for p in batches._pool.processes], flush=True)
if len(sys.argv) > 3: sys.stdin.read()
"""


def _gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def _all_gone(pids: list[str]) -> bool:
    deadline = time.monotonic() + 30
    while not all(_gone(int(pid)) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return len(pids) == 2 and all(_gone(int(pid)) for pid in pids)


def test_works_in_a_script_without_main_guard_and_ends_with_it(make_shards: Make, tmp_path: Path) -> None:
    shards, script, mark = make_shards(20), tmp_path / "script.py", tmp_path / "mark"
    script.write_text(_SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, str(script), str(shards), str(mark)],
        capture_output=True, text=True, env=environment, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert mark.read_text() == "x"
    assert _all_gone(done.stdout.split()[1:])

    child = subprocess.Popen(
        [sys.executable, str(script), str(shards), str(mark), "stay"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert child.stdout is not None
    total, *pids = child.stdout.readline().split()
    assert total == done.stdout.split()[0]
    child.kill()
    child.communicate()
    assert _all_gone(pids)


def test_no_threads_stay_behind(make_shards: Make) -> None:
    before = set(threading.enumerate())
    drawn(make_shards(20), np.arange(1, 21), 0, workers=2, **LIGHT)
    assert set(threading.enumerate()) <= before


def test_evaluation_batches_keep_the_order_and_skip_what_is_absent(make_shards: Make) -> None:
    shards = make_shards(25, absent=(2, 11))
    batches = list(evaluation_batches(shards, None, 16, 10))
    assert [len(ids) for ids, _ in batches] == [10, 10, 3]
    ids = np.concatenate([ids for ids, _ in batches])
    assert ids.tolist() == [i for i in range(1, 26) if i not in {2, 11}]
    assert ids.dtype == np.int64
    first = read_shard(shard_paths(shards)[0])
    assert (batches[0][1][0] == decode(first.bytes[0] or b"", 16)).all()


def test_evaluation_of_one_shard(make_shards: Make) -> None:
    path = shard_paths(make_shards(25))[1]
    assert [ids.tolist() for ids, _ in evaluation_batches(path, None, 16, 7)] == [list(range(11, 18)), [18, 19, 20]]


def test_evaluation_of_a_subset(make_shards: Make) -> None:
    shards = make_shards(25, absent=(2,))
    batches = list(evaluation_batches(shards, np.array([24, 2, 3, 17]), 16, 2))
    assert [ids.tolist() for ids, _ in batches] == [[3, 17], [24]]
    assert batches[0][1].shape == (2, 16, 16, 3)


def test_evaluation_decodes_ahead_but_not_far(make_shards: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    def counting(data: Any, size: int, *how: Any) -> NDArray[np.uint8]:
        decoded.append(size)
        return decode(data, size, *how)

    monkeypatch.setattr("labelstack.images.loader.decode", counting)
    iterator = evaluation_batches(make_shards(60), None, 16, 5)
    assert next(iterator)[0].tolist() == [1, 2, 3, 4, 5]
    time.sleep(0.3)
    assert len(decoded) == 15
    assert len(list(iterator)) == 11


def test_an_image_that_does_not_decode_stops_the_evaluation(make_shards: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*asked: Any) -> NDArray[np.uint8]:
        raise ValueError("not an image")

    monkeypatch.setattr("labelstack.images.loader.decode", broken)
    with pytest.raises(ValueError, match="not an image"):
        list(evaluation_batches(make_shards(10), None, 16, 5))


@pytest.mark.parametrize("cache_bytes", [0, 10**9], ids=["from shards", "kept"])
@pytest.mark.parametrize("workers", [0, 2])
def test_rows_that_come_again_come_twice_and_alike(make_shards: Make, cache_bytes: int, workers: int) -> None:
    shards, ids = make_shards(45), np.arange(1, 46)
    again = np.array([3, 20, 44])
    with loader(shards, ids, workers=workers, cache_bytes=cache_bytes) as batches:
        plain, twice = list(batches.epoch(1)), list(batches.epoch(1, again))
        nothing = list(batches.epoch(1, again[:0]))
        orders = [batches.order(1), batches.order(1, again)]
    assert same(plain, nothing)
    assert [ids_of(plain), ids_of(twice)] == [ids[order].tolist() for order in orders]
    assert sorted(ids_of(twice)) == sorted([*ids, *ids[again]])
    assert [len(images) for images, _ in twice] == [8] * 6
    pixels: dict[int, list[bytes]] = {}
    for images, targets in twice:
        for image, target in zip(images, targets, strict=True):
            pixels.setdefault(int(target[0]), []).append(image.tobytes())
    once = {
        int(target[0]): image.tobytes()
        for images, targets in plain
        for image, target in zip(images, targets, strict=True)
    }
    assert all(set(found) == {once[image_id]} for image_id, found in pixels.items())


def test_the_digest_is_another_one_for_whatever_changes_an_image_or_its_place(make_shards: Make) -> None:
    shards, ids = make_shards(20), np.arange(1, 21)
    usual = loader(shards, ids).digest
    assert loader(shards, ids, workers=2, cache_bytes=0).digest == usual
    others: list[dict[str, Any]] = [
        {"size": 20}, {"batch_size": 4}, {"seed": 2}, {"augment": None}, {"augment": AugmentSection(flip=0.1)},
        {"resize": "letterbox"}, {"shuffle_shards": 1}, {"boxes": {3: Box(0, 0, 0.5, 1)}},
    ]  # fmt: skip
    digests = [loader(shards, ids, **other).digest for other in others] + [loader(shards, ids[1:]).digest]
    assert len({usual, *digests}) == len(others) + 2


def test_rows_of_two_splits_with_the_same_ids_come_together(make_shards: Make, tmp_path: Path) -> None:
    one = make_shards(12).rename(tmp_path / "one")
    for image_id in range(1, 21):
        (tmp_path / f"source/{image_id}.jpg").write_bytes(jpeg(image_id + 50))
    manifest = pd.DataFrame({"image_id": np.arange(1, 21), "url": [[f"file:{i}.jpg"] for i in range(1, 21)]})
    other = tmp_path / "other"
    download_split(manifest, other, ImagesSection(shard_rows=10, store_size=32), tmp_path / "source")
    ids = np.array([1, 2, 3, 4, 3, 4, 5], np.int64)
    targets = np.arange(7, dtype=np.float32)[:, None]
    options: dict[str, Any] = {"size": 16, "batch_size": 4, "seed": 1, "augment": None, "workers": 0}
    with TrainingBatches([(one, 4), (other, 3)], ids, targets, **options) as batches:
        seen = {int(y[0]): x for X, Y in batches.epoch(0) for x, y in zip(X, Y, strict=True)}
        together = batches.digest
    assert sorted(seen) == list(range(7))
    for folder, rows in ((one, slice(0, 4)), (other, slice(4, 7))):
        with TrainingBatches(folder, ids[rows], targets[rows], **options) as alone:
            for X, Y in alone.epoch(0):
                for x, y in zip(X, Y, strict=True):
                    assert np.array_equal(seen[int(y[0])], x)
            assert alone.digest != together
    assert not np.array_equal(seen[2], seen[4])  # ids 3 of one and of the other
    with pytest.raises(ValueError, match="do not fit the 6 rows of the folders"):
        TrainingBatches([(one, 4), (other, 2)], ids, targets, **options)
