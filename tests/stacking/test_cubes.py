"""Cubes on disk: what is read, and what is said about a file that is something else."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelstack.stacking.bench.cubes import Cube, read_cube
from labelstack.stacking.bench.generator import generate
from labelstack.support.errors import InputProblems, UserError


@pytest.fixture(scope="module")
def small() -> Cube:
    return generate(20, 3, 4, n_test=6, seed=1)


def saved(folder: Path, **arrays: Any) -> Path:
    path = folder / "cube.npz"
    np.savez(path, **arrays)
    return path


def good(**change: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    arrays = {"cube": rng.random((8, 3, 4)), "labels": rng.integers(0, 2, (8, 4))} | change
    return {name: array for name, array in arrays.items() if array is not None}


def problems(path: Path) -> list[str]:
    with pytest.raises(InputProblems) as caught:
        read_cube(path)
    assert caught.value.source == str(path)
    return caught.value.problems


def test_what_is_written_is_read(small, tmp_path):
    arrays = {name: getattr(small, name) for name in ("cube", "labels", "test_cube", "test_labels")}
    found = read_cube(saved(tmp_path, **arrays))
    for name in ("cube", "labels", "test_cube", "test_labels"):
        array = getattr(found, name)
        assert array.dtype == np.float32
        assert np.array_equal(array, getattr(small, name))
    assert found.models == small.models == ("model_0", "model_1", "model_2")


def test_half_precision_is_close(small, tmp_path):
    half = saved(tmp_path, cube=small.cube.astype(np.float16), labels=small.labels.astype(np.uint8))
    assert np.abs(read_cube(half).cube - small.cube).max() < 1e-3


def test_without_a_test_pair_and_names(tmp_path):
    arrays = good()
    found = read_cube(saved(tmp_path, **arrays, note=np.array("left alone")))
    assert np.array_equal(found.cube, arrays["cube"].astype(np.float32))
    assert found.test_cube is None
    assert found.test_labels is None
    assert found.models == ("model_0", "model_1", "model_2")


@pytest.mark.parametrize("names", [["a", "b", "c"], [b"a", b"b", b"c"]])
def test_names_soft_labels_and_bool_are_read(tmp_path, names):
    soft = np.full((8, 4), 0.25)
    found = read_cube(saved(tmp_path, **good(labels=soft, models=np.array(names))))
    assert found.models == ("a", "b", "c")
    assert (found.labels == 0.25).all()
    assert read_cube(saved(tmp_path, **good(labels=soft > 0))).labels.min() == 1


def test_all_problems_at_once(tmp_path):
    cube = np.full((8, 3, 4), 0.5, np.float16)
    cube[5, 2, 1], cube[6, 0, 0], cube[7, 1, 3], cube[7, 2, 3] = np.nan, np.inf, 1.5, -0.5
    labels = np.zeros((7, 4))
    labels[2, 3] = 2
    path = saved(
        tmp_path,
        cube=cube,
        labels=labels,
        test_cube=np.zeros((5, 2, 4)),
        models=np.array(["ann", "ben", "cas", "ann"]),
    )
    assert problems(path) == [
        "test_labels: missing; expected numbers [images, labels], at least one of each (the file has: cube, labels, "
        "test_cube, models)",
        "models: names must differ; there more than once: ann",
        "cube: 4 of 96 values NaN or outside 0 … 1, the first at image 5, model 2 (cas), label 1: nan; expected "
        "probabilities, not logits",
        "labels: 1 of 28 values NaN or outside 0 … 1, the first at image 2, label 3: 2",
        "labels: is [7, 4]; expected [8, 4], as cube has them",
        "test_cube: is [5, 2, 4]; expected the 3 model(s) and 4 label(s) of cube",
        "models: 4 name(s) for the 3 model(s) of cube",
    ]


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        (
            good(cube=None, preds=np.zeros(3)),
            "cube: missing; expected numbers [images, models, labels], at least one of each (the file has: labels, p",
        ),
        (good(labels=None), "labels: missing; expected numbers [images, labels], at least one of each (the"),
        (good(test_labels=np.zeros((2, 4))), "test_cube: missing; expected numbers [images, models, labels]"),
        (good(labels=np.zeros(8)), "labels: expected numbers [images, labels], at least one of each, not"),
        (good(cube=np.zeros((8, 0, 4))), "cube: expected numbers [images, models, labels], at least one of each"),
        (good(cube=np.full((8, 3, 4), "a")), "cube: expected numbers [images, models, labels]"),
        (good(models=np.array([1, 2, 3])), "models: expected one text for each model, not int64 [3]"),
        (good(cube=np.zeros((1, 3, 4)), labels=np.zeros((1, 4))), "cube: one image; expected at least two"),
    ],
)  # fmt: skip
def test_each_problem_is_told(tmp_path, arrays, expected):
    found = problems(saved(tmp_path, **arrays))
    assert len(found) == 1
    assert found[0].startswith(expected)


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("sprung"),))


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    objects = np.array([Trap()], object)
    assert [line.split(":")[0] for line in problems(saved(tmp_path, **good(labels=objects)))] == ["labels"]
    assert read_cube(saved(tmp_path, **good(other=objects))).cube.shape == (8, 3, 4)
    (tmp_path / "raw.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError, match=r"not an \.npz file"):
        read_cube(tmp_path / "raw.npz")
    assert not (tmp_path / "sprung").exists()


def test_files_that_are_no_cubes(tmp_path):
    with pytest.raises(UserError, match=r"none\.npz: not found"):
        read_cube(tmp_path / "none.npz")
    with pytest.raises(UserError, match="Is a directory"):
        read_cube(tmp_path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(UserError, match="holds one array"):
        read_cube(tmp_path / "one.npy")
    whole = saved(tmp_path, **good()).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"not an \.npz file, or a damaged one"):
        read_cube(tmp_path / "cut.npz")


def of_groups(**change: Any) -> dict[str, Any]:
    cube = np.full((4, 2, 5), np.nan)
    cube[:2, :, :3], cube[2:, :, 3:] = [0.5, 0.3, 0.2], [0.6, 0.4]
    labels = np.array([[1, 0, 0, 0, 0], [0, 1, 0.2, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]])
    arrays = {"cube": cube, "labels": labels, "groups": np.array(["a", "a", "a", "b", "b"])} | change
    return {name: array for name, array in arrays.items() if array is not None}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"known": np.array(["a", "a", "b", "b"])},
        {"known": np.array([0, 0, 1, 1])},
        {"groups": np.array([b"a", b"a", b"a", b"b", b"b"])},
    ],
)
def test_label_groups_are_read_or_found_in_the_labels(tmp_path, change):
    found = read_cube(saved(tmp_path, **of_groups(**change)))
    assert found.asked.known.tolist() == ["a", "a", "b", "b"]
    assert found.labels.sum(axis=1).tolist() == [1, 1, 1, 1]
    assert np.argwhere(found.maybe).tolist() == [[1, 2]]  # a soft label that is not the largest
    assert np.isfinite(found.cube).all()
    assert found.test_asked is None


def test_labels_that_may_be_true_and_a_test_pair_are_read(tmp_path):
    maybe = np.zeros((4, 5), bool)
    maybe[0, 1] = True
    pair = {f"test_{name}": array for name, array in of_groups().items() if name != "groups"}
    found = read_cube(saved(tmp_path, **of_groups(maybe=maybe), **pair))
    assert np.argwhere(found.maybe).tolist() == [[0, 1]]
    assert found.test_asked.known.tolist() == ["a", "a", "b", "b"]


def test_what_is_wrong_with_label_groups_is_told(tmp_path):
    assert problems(saved(tmp_path, **of_groups(groups=np.array(["a", "b"]))))[:1] == [
        "groups: expected a text or whole number for each of 5 labels, not <U1 [2]"
    ]
    told = problems(saved(tmp_path, **of_groups(known=np.array(["a", "b", "b", "b"]))))
    assert told == [
        "known: 1 of 4 images know another group than that of their label, the first is image 1: b, its label is of a"
    ]
    empty = of_groups()["labels"].copy()
    empty[2] = 0
    assert problems(saved(tmp_path, **of_groups(labels=empty))) == [
        "labels: Y: row 2 has no label, expected one in each row (1 rows)"
    ]
    cube = of_groups()["cube"].copy()
    cube[0, 1, 2] = np.nan
    assert (
        "1 of 40 values NaN or outside 0 … 1, the first at image 0, model 1, label 2"
        in problems(saved(tmp_path, **of_groups(cube=cube)))[0]
    )
    assert problems(saved(tmp_path, **of_groups(groups=None, known=np.array(["a"] * 4))))[0].startswith(
        "groups: missing"
    )
