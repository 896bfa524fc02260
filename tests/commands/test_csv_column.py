"""A column of a CSV file, well and badly formed; nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from labelstack.commands import predict_images
from labelstack.commands.csv_column import read_column
from labelstack.support.errors import UserError

NAMES = ("image", "url")


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (b"image\na.jpg\nb.jpg\n", ["a.jpg", "b.jpg"]),
        (b"\xef\xbb\xbfimage,id\r\na.jpg,1\r\n", ["a.jpg"]),
        (b"id,image\n1,a.jpg\n\n2,b.jpg", ["a.jpg", "b.jpg"]),
        (b'id,image\n1,"a\nb.jpg"\n2,"c,""d"".jpg"\n', ["a\nb.jpg", 'c,"d".jpg']),
        (b"id,image,\n1,a.jpg,\n", ["a.jpg"]),
        (b"id,image\n1,\n2,NA\n3,007\n", ["", "NA", "007"]),
        (b" id , url\n1,a.jpg\n", ["a.jpg"]),
        (b"url,image\nu,i\n", ["i"]),
        (b"x,image,x\n1,a.jpg,2\n", ["a.jpg"]),
        (b"id,image\r1,a.jpg\r2,b.jpg\r", ["a.jpg", "b.jpg"]),
        ("image\nschön/ä.jpg\n".encode(), ["schön/ä.jpg"]),
        (b"image\n" + b"A" * 200_000 + b"\n", ["A" * 200_000]),
    ],
)
def test_values_are_those_below_the_name(tmp_path: Path, content: bytes, values: list[str]) -> None:
    (tmp_path / "in.csv").write_bytes(content)
    assert read_column(tmp_path / "in.csv", NAMES) == values


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"id,image\n1,a.jpg,\n2,b.jpg,\n", ["line 2: 3 cells, the header has 2", "line 3: 3 cells"]),
        (b"id,image\n1,a.jpg\n2\n3,c.jpg,x,y\n", ["line 3: 1 cell, the header has 2", "line 4: 4 cells"]),
        (b'id,image\n1,"a\nb\nc.jpg"\n2,b.jpg,\n', ["1 problem", "line 5: 3 cells"]),
        (b"id,image\n" + b"1,a.jpg,\n" * 1000, ["1000 problems", "line 51:", "and 950 more"]),
        (b"", ["expected a column `image` (or `url`) in the first line, found an empty file"]),
        (b"\n\n", ["found an empty file"]),
        (b"id;image\n1;a.jpg\n", ["expected a column `image`", "found id;image"]),
        (b"Image\na.jpg\n", ["expected a column `image`", "found Image"]),
        (b"id,image,image\n1,a.jpg,b.jpg\n", ["has the column `image` 2 times"]),
        (b"image\n", ["no rows"]),
        (b"image\na.jpg\nb\0.jpg\n", ["save it as UTF-8", "line 3: expected UTF-8 text"]),
        (b"image\na.jpg\nsch\xf6n.jpg\ng\xfcrtel.jpg\n", ["line 3: expected UTF-8", "line 4: expected UTF-8"]),
        ("image\na.jpg\n".encode("utf-16"), ["save it as UTF-8", "line 1: expected UTF-8 text"]),
        (b'id,image\n1,a.jpg\n2,"b.jpg\n3,c.jpg\n', ["not CSV, in the row that begins on line 3"]),
        (b'id,image\n1,"a"b.jpg\n', ["not CSV, in the row that begins on line 2"]),
    ],
)
def test_what_does_not_fit_is_said_by_line(tmp_path: Path, content: bytes, told: list[str]) -> None:
    (tmp_path / "in.csv").write_bytes(content)
    with pytest.raises(UserError) as caught:
        predict_images.listed([str(tmp_path / "in.csv")])
    assert str(caught.value).startswith(f"{tmp_path / 'in.csv'}")
    for text in told:
        assert text in str(caught.value)
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize(("name", "text"), [("gone.csv", "not found"), ("/proc/self/mem", "cannot be read")])
def test_what_is_no_file_is_said(name: str, text: str) -> None:
    with pytest.raises(UserError, match=f"{name}: {text}"):
        read_column(Path(name), NAMES)


def test_an_argument_stands_for_itself_whatever_its_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "folder.jpg" / "b.PNG").touch()
    (tmp_path / "gone.jpg").symlink_to("nothing")
    given = ["", "x" * 300, "A" * 5000, "data:image/png;base64,AAAA", "http://host/a.csv", "b\udcff.jpg", "none.jpg"]
    assert predict_images.listed(given) == given
    assert predict_images.listed(["."]) == ["a.jpg", "folder.jpg/b.PNG", "gone.jpg"]
