"""sample_submission.csv decides header and row order, and is compared with the test images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.files import GOOD, problems_of, write
from labelstack.formats import imaterialist2018
from labelstack.formats.submission import Form, is_header, read_form, write_form, write_submission
from labelstack.support.errors import UserError

WANTED = "sample_submission.csv: line 1: expected a header of two names, the first of them the image's id"


def sampled(root: Path, text: str, encoding: str = "utf-8") -> Path:
    write(root, GOOD)  # the test images are 9 and 4
    (root / "sample_submission.csv").write_text(text, encoding=encoding, newline="")
    return root


def test_without_a_sample_the_default_is_taken(tmp_path: Path) -> None:
    form = imaterialist2018.read(write(tmp_path, GOOD)).submission
    assert form.header == ("id", "predicted")
    assert form.image_id.tolist() == [9, 4]


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("image_id,label_id\n4,1 2\n9,\n", ("image_id", "label_id")),
        ("\ufeffimage_id,label_id\r\n4,95 66\r\n9,95 66", ("image_id", "label_id")),
        ("id,predicted\n4,1\n9,1\n", ("id", "predicted")),
        ("imageId,labelId\n04,1\n 9,1\n\n", ("imageId", "labelId")),
        ('"Image Id","Expected"\n"4","1"\n"9","1"\n', ("Image Id", "Expected")),
    ],
)
def test_a_sample_gives_header_and_order(tmp_path: Path, text: str, header: tuple[str, str]) -> None:
    form = imaterialist2018.read(sampled(tmp_path, text)).submission
    assert form.header == header
    assert form.image_id.tolist() == [4, 9]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ", found an empty file"),
        ("4,1 2\n9,\n", 'found "4,1 2"'),
        ("image_id\n4\n9\n", 'found "image_id"'),
        ("image_id,label_id,x\n4,1,1\n9,1,1\n", 'found "image_id,label_id,x"'),
        ("predicted,id\n4,1\n9,1\n", 'found "predicted,id"'),
        ("id,id\n4,1\n9,1\n", 'found "id,id"'),
        ("id,\n4,1\n9,1\n", 'found "id,"'),
        ('id,"a,b"\n4,1\n9,1\n', 'found "id,a,b"'),
        ('id,"a\nb"\n4,1\n9,1\n', "found"),
        ('id,"=1+1"\n4,1\n9,1\n', "found"),
        ("image_id;label_id\n4;1\n9;1\n", "found"),
    ],
)
def test_a_header_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (problem,) = problems_of(sampled(tmp_path, text))
    assert problem.startswith(WANTED)
    assert said in problem


@pytest.mark.parametrize(
    ("rows", "problems"),
    [
        ("4,1\n", ["image_id: expected every image of test.json, found no line for an image (9)"]),
        ("", ["image_id: expected every image of test.json, found no line for 2 images (4, 9)"]),
        ("4,1\n9,1\n5,1\n", ["line 4: image_id: expected the id of an image in test.json, found 5"]),
        ("4,1\n9,1\n4,1\n", ["line 4: image_id: expected each id once, found 4 on line 2 too"]),
        ("4,1\n9,1\nx,1\n", ['line 4: image_id: expected the id of a test image, found "x"']),
        ("4,1\n9\n", ["line 3: expected two fields (image_id,label_id), found 1"]),
        ("4,1,2\n9,1\n", ["line 2: expected two fields (image_id,label_id), found 3"]),
        (
            "4,1\n4,1\n5,1\n",
            [
                "line 3: image_id: expected each id once, found 4 on line 2 too",
                "line 4: image_id: expected the id of an image in test.json, found 5",
                "image_id: expected every image of test.json, found no line for an image (9)",
            ],
        ),
    ],
)
def test_lines_are_compared_with_the_test_images(tmp_path: Path, rows: str, problems: list[str]) -> None:
    root = sampled(tmp_path, f"image_id,label_id\n{rows}")
    assert problems_of(root) == [f"sample_submission.csv: {problem}" for problem in problems]


def test_the_sample_of_another_competition_is_two_problems(tmp_path: Path) -> None:
    root = sampled(tmp_path, "image_id,label_id\n" + "".join(f"{i},1\n" for i in range(10_000, 50_000)))
    other, absent = problems_of(root)
    assert "found something else 40,000 times: 10000 (once, first in line 2)" in other
    assert absent.endswith("found no line for 2 images (4, 9)")


def test_a_sample_beside_a_faulty_test_file_is_not_compared(tmp_path: Path) -> None:
    root = sampled(tmp_path, "image_id,label_id\n4,1\n")
    (root / "test.json").write_text('{"images": [{"image_id": "x", "url": "http://a"}]}')
    (problem,) = problems_of(root)
    assert problem.startswith("test.json: images[0]: image_id: expected")


def test_a_sample_that_is_not_text_is_explained(tmp_path: Path) -> None:
    assert problems_of(sampled(tmp_path, "é,b\n", "latin-1")) == [
        "sample_submission.csv: expected UTF-8 text, found another byte at position 0"
    ]


ids = st.lists(st.integers(0, 2**63 - 1), unique=True, max_size=30)
names = st.tuples(st.sampled_from(["id", "image_id", "imageId", "Image Id"]), st.sampled_from(["predicted", "labels"]))


@settings(max_examples=40, deadline=None)
@given(ids, names)
def test_a_form_comes_back(tmp_path_factory: pytest.TempPathFactory, ids: list[int], header: tuple[str, str]) -> None:
    folder = tmp_path_factory.mktemp("form")
    write_form(folder / "form.json", Form(np.array(ids, np.int64), header))
    back = read_form(folder / "form.json")
    assert back.header == header
    assert back.image_id.tolist() == ids
    assert back.image_id.dtype == np.int64
    write_submission(folder / "s.csv", back, [[7]] * len(ids))
    assert (folder / "s.csv").read_text() == ",".join(header) + "\n" + "".join(f"{i},7\n" for i in ids)


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", "3", '{"header": ["id"], "image_id": []}', '{"header": ["a", "b"], "image_id": [1]}',
     '{"header": ["id", "b"], "image_id": ["1"]}', '{"header": ["id", "b"], "image_id": [[1], [1, 2]]}',
     '{"header": [1, 2], "image_id": [1]}'],
)  # fmt: skip
def test_a_form_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "form.json").write_text(text)
    with pytest.raises(UserError, match=r"form\.json: expected header and image_id"):
        read_form(tmp_path / "form.json")


@given(st.lists(st.text(max_size=8), max_size=3))
def test_a_header_never_needs_quotes(fields: list[str]) -> None:
    if is_header(fields):
        assert not set(",\"'\r\n\t=;") & set("".join(fields).strip())
        assert "".join(fields).isascii()


def test_a_header_that_is_none_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a header of two names"):
        write_submission(tmp_path / "s.csv", Form(np.array([1]), ("id", "=1")), [[2]])
    assert list(tmp_path.iterdir()) == []
