from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labelstack.predictions import (
    Predictions,
    assemble_cube,
    read_predictions,
    write_part,
    write_predictions,
    write_values,
    writing,
)
from labelstack.support.errors import UserError
from labelstack.support.logits import as_kept

SHAPES = st.tuples(st.integers(0, 12), st.integers(1, 5))


@st.composite
def predictions(draw, labels: int | None = None) -> Predictions:
    rows, columns = draw(SHAPES)
    columns = labels or columns
    ids = draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=rows, max_size=rows, unique=True))
    probability = draw(hnp.arrays(np.float32, (rows, columns), elements=st.floats(0, 1, width=32)))
    return Predictions(np.array(ids, np.int64), probability)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=predictions(), dtype=st.sampled_from(["float32", "float16"]))
def test_predictions_come_back_and_are_byte_identical(tmp_path, made, dtype):
    write_predictions(tmp_path / "a.npz", made.image_id, made.probability, dtype=dtype)
    write_predictions(tmp_path / "b.npz", made.image_id, made.probability, dtype=dtype)
    read = read_predictions(tmp_path / "a.npz")
    np.testing.assert_array_equal(read.image_id, made.image_id)
    np.testing.assert_array_equal(read.probability, as_kept(made.probability, dtype))
    assert read.probability.dtype == np.float32
    assert read.shape == made.shape
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_file_is_an_array_of_records_that_numpy_maps(tmp_path):
    ids, P = np.array([7, 3]), np.array([[0, 0.5, 1], [0.25, np.nan, 0.75]], np.float32)
    write_predictions(tmp_path / "a.npy", ids, P, dtype="float16", unknown=True)
    found = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert found.dtype == np.dtype([("image_id", "<i8"), ("logit", "<f2", (3,))])
    assert found["image_id"].tolist() == [7, 3]
    expected = [[-np.inf, 0, np.inf], [-np.log(3), np.nan, np.log(3)]]
    np.testing.assert_array_equal(found["logit"], np.array(expected, np.float16))
    np.testing.assert_allclose(read_predictions(tmp_path / "a.npy").probability, P, atol=2e-4)


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    P = np.random.default_rng(0).random((9, 4)).astype(np.float32)
    write_predictions(tmp_path / "a.npy", np.arange(9), P)
    found = read_predictions(tmp_path / "a.npy")
    rows = found.matrix(found.places_of(np.array([8, 2, 5])))
    assert not isinstance(rows, np.ndarray)
    kept = as_kept(P, "float32")
    assert rows.shape == (3, 4)
    np.testing.assert_array_equal(rows[1:], kept[[2, 5]])
    np.testing.assert_array_equal(rows[np.array([True, False, True])], kept[[8, 5]])
    np.testing.assert_array_equal(np.asarray(rows), kept[[8, 2, 5]])
    assert "probability" not in vars(found)


def test_nested_predictions_are_read_fold_by_fold(tmp_path):
    rng = np.random.default_rng(0)
    P, folds = rng.random((9, 3, 4)).astype(np.float32), rng.integers(0, 3, 9)
    write_predictions(tmp_path / "a.npy", np.arange(9), P)
    kept, places = as_kept(P, "float32"), np.arange(9)[::-1]
    found = read_predictions(tmp_path / "a.npy").folds(places)
    assert found.shape == (3, 9, 4)
    for fold in range(3):
        np.testing.assert_array_equal(np.asarray(found[fold]), kept[places, fold])
    np.testing.assert_array_equal(np.asarray(found[folds, np.arange(9)]), kept[places, folds])


def test_rows_are_added_in_parts(tmp_path):
    P = np.random.default_rng(0).random((5, 2)).astype(np.float32)
    with writing(tmp_path / "a.npy", (5, 2)) as add:
        add(np.arange(2), P[:2])
        add(np.arange(2, 5), P[2:])
    write_predictions(tmp_path / "b.npy", np.arange(5), P)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    with (
        pytest.raises(ValueError, match="2 rows were written, 5 were told"),
        writing(tmp_path / "c.npy", (5, 2)) as add,
    ):
        add(np.arange(2), P[:2])
    assert not (tmp_path / "c.npy").exists()


@pytest.mark.parametrize("values", [np.array([[True, False]]), np.array([[3, np.nan]], np.float32)])
def test_what_is_no_probability_is_kept_as_it_is(tmp_path, values):
    write_values(tmp_path / "a.npy", np.arange(1), values)
    found = read_predictions(tmp_path / "a.npy").probability
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


@given(made=predictions())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parts_and_files_of_before_are_read_to_the_bit(tmp_path, made):
    write_part(tmp_path / "a.npz", made.image_id, made.probability)
    with (tmp_path / "b.npz").open("wb") as file:
        np.savez_compressed(file, image_id=made.image_id, probability=made.probability)
    for name in ("a.npz", "b.npz"):
        found = read_predictions(tmp_path / name)
        np.testing.assert_array_equal(found.image_id, made.image_id)
        np.testing.assert_array_equal(found.probability, made.probability)


@given(made=predictions(), random=st.randoms(use_true_random=False))
def test_rows_are_looked_up_by_id(made, random):
    wanted = [random.randrange(len(made.image_id)) for _ in range(7)] if len(made.image_id) else []
    rows = made.rows_of(made.image_id[wanted].astype(np.int64))
    np.testing.assert_array_equal(rows, made.probability[wanted])


@given(made=predictions(), data=st.data())
def test_ids_without_prediction_are_an_error(made, data):
    absent = data.draw(st.integers(-(2**63), 2**63 - 1).filter(lambda i: i not in made.image_id))
    wanted = np.append(made.image_id, np.int64(absent))
    with pytest.raises(UserError, match=f"1 of {len(wanted)} images have no prediction .*{absent}"):
        made.rows_of(wanted)


def test_the_first_of_many_absent_ids_are_named():
    made = Predictions(np.arange(3), np.zeros((3, 1), np.float32))
    with pytest.raises(UserError, match=r"7 of 10 images have no prediction \(first ids: 3, 4, 5, 6, 7\)"):
        made.rows_of(np.arange(10))


@pytest.mark.parametrize(
    ("ids", "probability", "message"),
    [
        ([1, 2], np.zeros((3, 2)), "must be"),
        ([1, 2], np.zeros(2), "must be"),
        ([[1], [2]], np.zeros((2, 2)), "must be"),
        ([1, 1], np.zeros((2, 2)), "unique"),
        ([1, 2], np.array([[0, np.nan], [0, 0]]), "NaN"),
        ([1, 2], np.array([[0, np.inf], [0, 0]]), "infinity"),
        ([1, 2], np.array([[0, 1.5], [0, 0]]), r"0 … 1, found 0 … 1\.5"),
    ],
)
def test_faulty_predictions_are_not_written(tmp_path, ids, probability, message):
    with pytest.raises(ValueError, match=message):
        write_predictions(tmp_path / "a.npz", np.array(ids), probability)
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(UserError, match="not found"):
        read_predictions(path)
    path.write_bytes(b"PK\x03\x04 something that only begins like an archive")
    with pytest.raises(UserError, match="not a predictions file"):
        read_predictions(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="not a predictions file"):
        read_predictions(path)
    np.savez(path, image_id=np.arange(3))
    with pytest.raises(UserError, match="not a predictions file"):
        read_predictions(path)
    for other in (
        np.arange(3),
        np.zeros(3, [("image_id", "<i8"), ("logit", "<i4", (2,))]),
        np.array([{}], dtype=object),
    ):
        np.save(tmp_path / "b.npy", other)
        with pytest.raises(UserError, match="not a predictions file"):
            read_predictions(tmp_path / "b.npy")


def test_pickled_objects_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, image_id=np.arange(2), probability=np.array([{}, {}], dtype=object))
    with pytest.raises(UserError, match="not a predictions file"):
        read_predictions(path)


def test_files_of_another_length_are_refused(tmp_path):
    path = tmp_path / "a.npy"
    write_predictions(path, np.arange(50), np.random.default_rng(0).random((50, 4)))
    content = path.read_bytes()
    for changed in (content[:4], content[:40], content[:150], content[:-1], content + b"\0"):
        path.write_bytes(changed)
        with pytest.raises(UserError, match="not a predictions file"):
            read_predictions(path)


@given(place=st.integers(6, 127), value=st.integers(0, 255))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_header_is_refused_or_means_something_else(tmp_path, place, value):
    path = tmp_path / "a.npy"
    write_predictions(path, np.arange(3), np.zeros((3, 2)))
    content = bytearray(path.read_bytes())
    content[place] = value
    path.write_bytes(content)
    with suppress(UserError):
        assert read_predictions(path).shape == (3, 2)


def test_damaged_parts_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    write_part(path, np.arange(500), np.random.default_rng(0).random((500, 4)))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="not a predictions file"):
        read_predictions(path)
    for place in range(200, len(content) - 200, 997):
        path.write_bytes(content[:place] + bytes(64) + content[place + 64 :])
        with pytest.raises(UserError, match="not a predictions file"):
            read_predictions(path)


def test_the_cube_has_models_in_the_mappings_order_and_rows_in_the_ids_order():
    ids = np.array([30, 10, 20])
    forward = Predictions(ids, np.array([[0.3], [0.1], [0.2]], np.float32))
    backward = Predictions(ids[::-1].copy(), np.array([[0.7], [0.9], [0.8]], np.float32))
    cube = assemble_cube({"z": forward, "a": backward}, np.array([10, 20, 30]))
    assert cube.dtype == np.float32
    np.testing.assert_array_equal(cube[..., 0], np.array([[0.1, 0.9], [0.2, 0.7], [0.3, 0.8]], np.float32))
    np.testing.assert_array_equal(assemble_cube({"a": backward, "z": forward}, np.array([30]))[0, :, 0], [
        np.float32(0.8), np.float32(0.3),
    ])  # fmt: skip


@given(st.lists(predictions(labels=3), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_a_cube_is_the_stack_of_looked_up_rows(made, random):
    shared = sorted(set.intersection(*(set(map(int, each.image_id)) for each in made)))
    random.shuffle(shared)
    ids = np.array(shared, np.int64)
    cube = assemble_cube({str(number): each for number, each in enumerate(made)}, ids)
    assert cube.shape == (len(ids), len(made), 3)
    for number, each in enumerate(made):
        np.testing.assert_array_equal(cube[:, number], each.rows_of(ids))


def test_every_model_that_lacks_images_is_named():
    full = Predictions(np.arange(4), np.zeros((4, 2), np.float32))
    half = Predictions(np.arange(2), np.zeros((2, 2), np.float32))
    none = Predictions(np.arange(0), np.zeros((0, 2), np.float32))
    with pytest.raises(UserError) as caught:
        assemble_cube({"full": full, "half": half, "none": none}, np.arange(4))
    text = str(caught.value)
    assert "half: 2 of 4" in text
    assert "none: 4 of 4" in text
    assert "full:" not in text


def test_models_with_other_numbers_of_labels_do_not_stack():
    one = Predictions(np.arange(2), np.zeros((2, 1), np.float32))
    two = Predictions(np.arange(2), np.zeros((2, 2), np.float32))
    with pytest.raises(UserError, match="different numbers of labels"):
        assemble_cube({"one": one, "two": two}, np.arange(2))


def test_no_models_do_not_stack():
    with pytest.raises(UserError, match="at least one base model"):
        assemble_cube({}, np.arange(2))


def test_a_cube_in_a_file_is_the_cube_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("labelstack.predictions.BLOCK", 20)  # a few rows at a time
    rng, ids = np.random.default_rng(0), np.arange(11)
    made = {}
    for name in "ab":
        P = rng.random((11, 3)).astype(np.float32)
        P[2, 1] = np.nan
        write_predictions(tmp_path / f"{name}.npy", rng.permutation(ids), P, unknown=True)
        made[name] = read_predictions(tmp_path / f"{name}.npy")
    whole, mapped = assemble_cube(made, ids), assemble_cube(made, ids, file=tmp_path / "cube.npy")
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, whole)
    np.testing.assert_array_equal(whole, np.stack([one.rows_of(ids) for one in made.values()], axis=1))
    filled = assemble_cube(made, ids, file=tmp_path / "cube.npy", unknown=0)
    np.testing.assert_array_equal(filled, np.nan_to_num(whole, nan=0))
    assert np.isnan(whole).sum() == 2
