import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labelstack.predictions import Predictions, assemble_cube, read_predictions, write_predictions
from labelstack.support.errors import UserError

SHAPES = st.tuples(st.integers(0, 12), st.integers(1, 5))


@st.composite
def predictions(draw, labels: int | None = None) -> Predictions:
    rows, columns = draw(SHAPES)
    columns = labels or columns
    ids = draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=rows, max_size=rows, unique=True))
    probability = draw(hnp.arrays(np.float32, (rows, columns), elements=st.floats(0, 1, width=32)))
    return Predictions(np.array(ids, np.int64), probability)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=predictions())
def test_predictions_come_back_and_are_byte_identical(tmp_path, made):
    write_predictions(tmp_path / "a.npz", made.image_id, made.probability)
    write_predictions(tmp_path / "b.npz", made.image_id, made.probability)
    read = read_predictions(tmp_path / "a.npz")
    np.testing.assert_array_equal(read.image_id, made.image_id)
    np.testing.assert_array_equal(read.probability, made.probability)
    assert read.probability.dtype == np.float32
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_files_carry_no_date(tmp_path):
    write_predictions(tmp_path / "a.npz", np.arange(2), np.zeros((2, 3)))
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


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
    np.save(tmp_path / "b.npy", np.arange(3))
    with pytest.raises(UserError, match="not a predictions file"):
        read_predictions(tmp_path / "b.npy")


def test_pickled_objects_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, image_id=np.arange(2), probability=np.array([{}, {}], dtype=object))
    with pytest.raises(UserError, match="not a predictions file"):
        read_predictions(path)


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    write_predictions(path, np.arange(500), np.random.default_rng(0).random((500, 4)))
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
