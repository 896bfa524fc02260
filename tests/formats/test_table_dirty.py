"""The format `table`: files as people have them, and what is said of what cannot be meant."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from formats.tables import SPLITS, named, problems_of, put, read
from labelstack.formats import text_id
from labelstack.formats.table_file import sniffed
from labelstack.support.errors import InputProblems

HEAD = "image,labels\n"
GOOD = HEAD + "a.jpg,cat\nb.jpg,dog\nc/d.jpg,cat\n"


def said(root: Path, text: str | bytes, *words: str, **table: object) -> list[str]:
    """The problems of a table; each of ``words`` stands in one of them."""
    put(root, text)
    task = str(table.pop("task", "multi_label"))
    found = problems_of(root, task, **table)
    for word in words:
        assert any(word in problem for problem in found), found
    return found


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [("image,labels", ","), ("image;labels", ";"), ('"image"\t"labels"', "\t"), ("x|image|labels", "|"),
     ("a;b,image,labels", ","), ("one", ",")],
)  # fmt: skip
def test_the_header_says_the_delimiter(header: str, delimiter: str) -> None:
    assert sniffed(header, {"image", "labels"}) == delimiter


def test_an_image_stands_once_whatever_it_is_called(tmp_path: Path) -> None:
    found = said(tmp_path, GOOD + "a.jpg,cat\n./b.jpg,cow\nc\\d.jpg,cat\n")
    assert found == [
        "labels.csv: line 5 (a.jpg): image: expected each image once, found it on line 2 too",
        "labels.csv: line 6 (./b.jpg): image: expected each image once, found it on line 3 too",
        "labels.csv: line 7 (c\\d.jpg): image: expected each image once, found it on line 4 too",
    ]


def test_an_image_stands_in_one_file(tmp_path: Path) -> None:
    put(tmp_path, "image\nb.jpg\n", "test.csv")
    told = "test.csv: line 2 (b.jpg): image: expected each image once, found it in labels.csv on line 3 too"
    assert said(tmp_path, GOOD, test_file="test.csv") == [told]


@pytest.mark.parametrize("path", ["../x.jpg", "c/../../x.jpg", "..", "c\\..\\..\\x.jpg"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, path: str) -> None:
    said(tmp_path, f"{GOOD}{path},cat\n", "line 5: image: expected a path that stays below the images' folder")


@pytest.mark.parametrize("path", ["/etc/passwd", "C:\\x.jpg", "c:/x.jpg", "\\\\server\\x.jpg", "~/x.jpg"])
def test_an_absolute_path_is_refused(tmp_path: Path, path: str) -> None:
    said(
        tmp_path, f"{GOOD}{path},cat\n", "line 5: image: expected a path below the images' folder, not an absolute one"
    )


@pytest.mark.parametrize("url", ["file:a.jpg", "file:///etc/passwd", "ftp://h/x.jpg", "gs://bucket/x.jpg"])
def test_other_schemes_are_refused(tmp_path: Path, url: str) -> None:
    said(tmp_path, f"{GOOD}{url},cat\n", "this scheme is none of http, https, s3")


def test_links_are_followed_inside_the_data_set_only(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/x.jpg").touch()
    root = put(
        tmp_path / "mine", f"{GOOD}out.jpg,cat\nfolder/x.jpg,cat\nin.jpg,cat\nalias/d.jpg,cat\nloop/c/d.jpg,cat\n"
    )
    os.symlink("../secret/x.jpg", root / "out.jpg")
    os.symlink("../secret", root / "folder")
    os.symlink("a.jpg", root / "in.jpg")
    os.symlink("c", root / "alias")
    os.symlink(".", root / "loop")
    leaves = "a link that leads out of dataset.root"
    assert problems_of(root) == [
        f'labels.csv: line 5: image: expected a file in the data set, found "out.jpg", {leaves}',
        f'labels.csv: line 6: image: expected a file in the data set, found "folder/x.jpg", {leaves}',
        'labels.csv: line 9: image: expected a file that is there, found none called "loop/c/d.jpg"; "c/d.jpg" is there'
        " (dataset.table.images names the folder of the paths)",
    ]
    os.symlink("../secret", root / "photos")
    assert problems_of(root, images="photos")[0] == (
        "photos: expected the images' folder (dataset.table.images), found a link that leads out of dataset.root"
    )


def test_missing_files_are_told_with_what_may_be_meant(tmp_path: Path) -> None:
    nfd = unicodedata.normalize("NFD", "café.jpg")
    put(tmp_path, "", images=["IMG.JPG", nfd, "deep/x.jpg", "plain.png"])
    found = said(tmp_path, HEAD + "img.jpg,cat\ncafé.jpg,cat\nx.jpg,cat\nplain,cat\ngone.jpg,cat\n")
    assert len(found) == 1
    assert found[0].startswith("labels.csv: image: expected a file that is there, found something else 5 times: ")
    for name, hint in (
        ("img.jpg", '"IMG.JPG" is there, spelled with other letters'),
        ("café.jpg", "another Unicode form"),
        ("x.jpg", '"deep/x.jpg" is there (dataset.table.images'),
    ):
        put(tmp_path, f"{GOOD}{name},cat\n")
        assert hint in problems_of(tmp_path)[0]
    put(tmp_path, f"{GOOD}plain,cat\n")
    assert problems_of(tmp_path)[0].endswith('"plain.png" is there (dataset.table.suffix: .png)')


def test_thousands_of_problems_are_a_few_sentences(tmp_path: Path) -> None:
    found = said(tmp_path, HEAD + "".join(f"x{i}.jpg,\n" for i in range(5000)) + "/y,a\n" * 5000, task="single_label")
    assert len(found) < 10
    assert len("".join(found)) < 3000
    assert "5,000 times" in found[0]


def test_all_problems_of_all_files_come_at_once(tmp_path: Path) -> None:
    put(tmp_path, "image,labels\n,cat\n", "val.csv")
    put(tmp_path, "picture\nb.jpg\n", "test.csv")
    said(
        tmp_path, "image,labels\na.jpg,Cat\ngone.jpg,cat\nb.jpg,x,y\n",
        "labels.csv: line 3: image: expected a file that is there",
        "labels.csv: line 4: expected 2 fields, as many as the header has, found 3",
        "val.csv: line 2: image: expected a path below the images' folder, or an http, https or s3 URL, found an empty",
        'test.csv: expected a column "image" (dataset.table.image), found "picture"',
        'labels "Cat" (labels.csv, line 2) and "cat" (labels.csv, line 3)',
        validation_file="val.csv", test_file="test.csv",
    )  # fmt: skip


def test_an_empty_label_cell_is_a_statement_unless_every_image_has_one(tmp_path: Path) -> None:
    text = "image,labels,split\na.jpg,,train\nb.jpg,cat,train\nc/d.jpg,cat;dog,val\ne.jpg,,test\n"
    assert named(read(put(tmp_path, text), split="split"))["train"]["a.jpg"] == []
    assert said(tmp_path, text, task="single_label", split="split") == [
        "labels.csv: line 2: labels: expected exactly one label (dataset.task: single_label), found none",
        "labels.csv: line 4: labels: expected exactly one label (dataset.task: single_label), found 2 (cat, dog)",
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [("Cat", "cat"), ("straße", "STRASSE"), ("two  words", "two words"), ("\u00e9", "e\u0301"), ("ﬁsh", "fish")],
)
def test_two_spellings_of_a_label_are_refused_with_both(tmp_path: Path, one: str, other: str) -> None:
    (problem,) = said(tmp_path, HEAD + f"a.jpg,{one}\nb.jpg,{other}\nc/d.jpg,{one}\n")
    assert problem.startswith("labels ")
    assert "labels.csv, line 2" in problem
    assert "labels.csv, line 3" in problem


def test_many_spellings_are_a_few_sentences(tmp_path: Path) -> None:
    names = [f"name{i}" for i in range(100)]
    rows = "".join(
        f"http://h/{name}{j},{spelled}\n" for name in names for j, spelled in enumerate((name, name.upper()))
    )
    found = said(tmp_path, HEAD + rows)
    assert len(found) == 6
    assert found[-1] == "labels: 95 more differ from others in this only"


@pytest.mark.parametrize("label", ["a\nb", "a\tb", "\u2028x y", "x\x00"])
def test_labels_are_one_visible_line(tmp_path: Path, label: str) -> None:
    said(tmp_path, f'{GOOD}e.jpg,"x{label}y"\n', "expected one line of visible text")


def test_a_separator_that_no_cell_holds_is_told(tmp_path: Path) -> None:
    text = HEAD + 'a.jpg,"cat|dog"\nb.jpg,cat\nc/d.jpg,"dog|cow"\n'
    said(
        tmp_path, text, 'expected ";" between labels (dataset.table.separator), found it in no cell, and "|" in 2 of 3'
    )


def test_a_label_may_not_hold_what_joins_labels(tmp_path: Path) -> None:
    put(tmp_path, "")
    rows = {"image": ["a.jpg", "b.jpg", "c/d.jpg"], "labels": [["a;b"], ["c", "d"], ["c"]]}
    pd.DataFrame(rows).to_parquet(tmp_path / "labels.csv")  # whatever it is called
    (problem,) = problems_of(tmp_path)
    assert problem.startswith('label "a;b" (labels.csv, row 0): holds ";"')
    assert named(read(tmp_path, separator="json", test=0.3, validation=0.5))["train"]


def test_too_many_labels_are_the_wrong_column(tmp_path: Path) -> None:
    rows = "".join(f"http://h/{i},caption {i}\n" for i in range(100_001))
    (problem,) = said(tmp_path, HEAD + rows)
    assert "expected at most 100,000 different labels, found 100,001" in problem


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"PK\x03\x04\x14\x00", "an Excel workbook or another zip file"),
        (b"\xd0\xcf\x11\xe0\xa1", "an old Excel workbook"),
        (b"\x1f\x8b\x08", "a gzip file"),
        ("image,labels\n".encode("utf-16"), "text in UTF-16"),
        ("image,labels\na.jpg,caf\xe9\n".encode("latin-1"), "line 2: expected UTF-8 text, found the byte 0xe9"),
        (b"image,labels\n" + b"a.jpg,x\n" * 9000 + b"\xff", "line 9002: expected UTF-8 text, found the byte 0xff"),
        (b"", "expected a header with the names of the columns"),
        (b"\n", "expected a header with the names of the columns"),
        (b"image,labels\n", "expected at least one row, found none"),
        (b'image,labels\n"a.jpg,x\n', "not readable as CSV"),
        (b"PAR1xxxx", "not readable as parquet"),
        (b"image,labels,labels\na,b,c\n", 'expected the column "labels" once, found it 2 times'),
        (b"file name,tags\na.jpg,x\n", 'expected a column "labels" (dataset.table.labels), found "file name", "tags"'),
    ],
)
def test_files_that_are_no_such_table(tmp_path: Path, content: bytes, word: str) -> None:
    said(tmp_path, content, word)


def test_a_missing_table_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    put(tmp_path, GOOD, "labels_final.csv")
    assert problems_of(tmp_path) == ["labels.csv: expected this file, found none; there are labels_final.csv"]


def test_splits_that_are_none_are_told(tmp_path: Path) -> None:
    text = "image,labels,split\na.jpg,x,train\nb.jpg,x,trian\nc/d.jpg,x,\n"
    assert said(tmp_path, text, split="split") == [
        'labels.csv: line 3: split: expected train, validation (or val) or test, found "trian"',
        "labels.csv: line 4: split: expected train, validation (or val) or test, found an empty cell",
    ]


def test_too_few_rows_are_told_for_every_split(tmp_path: Path) -> None:
    put(tmp_path, GOOD)
    assert problems_of(tmp_path, folds=5) == [
        "validation: expected at least 5 images (folds.k in params.yaml: one for each fold), found 1 of 3; raise "
        "dataset.table.validation, or give it more rows",
    ]


def test_splits_without_labels_are_told(tmp_path: Path) -> None:
    assert said(tmp_path, SPLITS.replace("cat;dog", "").replace("dog", ""), split="split") == [
        "train: expected at least one label, found none on 2 images; label some of them"
    ]


def test_two_texts_with_one_digest_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_id, "text_id", lambda text: 7 if text in ("a.jpg", "b.jpg") else hash(text) & 0xFFFF)
    assert said(tmp_path, GOOD) == [
        "images 'a.jpg' and 'b.jpg': have the same id 7 inside, by chance: give one another name"
    ]


def test_secrets_in_urls_are_not_told(tmp_path: Path) -> None:
    url = "https://me:pass-word@h/x.jpg?X-Amz-Signature=geheim"
    with pytest.raises(InputProblems) as caught:
        read(put(tmp_path, f"{HEAD}{url},cat\n{url},dog\n{url.replace('https', 'ftp')},dog\n"))
    assert "https://h/x.jpg" in str(caught.value)
    assert "pass-word" not in str(caught.value)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("images", "word"),
    [
        (["a/1.jpg", "1.jpg"], "1.jpg: expected images in a folder for each class, found an image in none"),
        (["train/a/1.jpg", "dogs/1.jpg"], "train/: expected nothing but splits beside it, found dogs/"),
        (["cats/1.jpg", "test/1.jpg"], "test/: expected train/ beside it, or a class that is not called like a split"),
        (["a/readme.txt"], "the folder: expected images in a folder for each class, found none among 2 files"),
        (["train/1.jpg", "train/a/2.jpg"], "expected images in a folder for each class, found an image in none"),
        (["a/1.jpg", "A/2.jpg"], 'labels "A" (dataset.root, file 0) and "a" (dataset.root, file 1)'),
    ],
)
def test_folders_that_are_no_classes(tmp_path: Path, images: list[str], word: str) -> None:
    put(tmp_path, "", ".x", images=images)
    assert [problem for problem in problems_of(tmp_path, file=None) if word in problem], problems_of(
        tmp_path, file=None
    )


def test_names_of_files_that_are_no_text_are_told(tmp_path: Path) -> None:
    put(tmp_path, "", ".x", images=["a/1.jpg"])
    with open(os.fsencode(tmp_path) + b"/a/\xff.jpg", "wb"):
        pass
    assert "a name in UTF-8" in problems_of(tmp_path, file=None)[0]
