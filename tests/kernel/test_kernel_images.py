"""The images of a kernel: which files are meant, and that they are stored as a download stores them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from labelstack.ensemble.folder import EnsembleSettings
from labelstack.ensemble.recorded_form import label_texts
from labelstack.formats.submission import Form, Texts
from labelstack.formats.text_id import text_id
from labelstack.images.shards.fill import download_split
from labelstack.images.shards.shard_files import read_shard, shard_paths
from labelstack.kernel.image_files import WantedImages, sample_form, wanted_images
from labelstack.kernel.stored_images import store_images
from labelstack.params.images import ImagesSection
from labelstack.support.errors import UserError

PLAIN = Form(np.array([5, 3, 9]))


def picture(width: int, height: int, form: str, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(width).integers(0, 255, (height, width, len(mode)), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels, mode).save(buffer, form)
    return buffer.getvalue()


FILES = {
    "1.jpg": picture(24, 30, "JPEG"),  # small enough to stay as it is
    "2.png": picture(90, 61, "PNG"),
    "3.png": picture(40, 70, "PNG", "RGBA"),
    "4.jpg": picture(200, 120, "JPEG")[:-900],
    "5.jpg": b"no image",
    "6.jpg": picture(400, 300, "JPEG"),  # more bytes than are taken
}


def test_images_are_stored_as_a_download_stores_them(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    for name, data in FILES.items():
        (tmp_path / "test" / name).write_bytes(data)
    most = len(FILES["6.jpg"]) - 1
    params = ImagesSection(store_size=32, jpeg_quality=80, shard_rows=4, max_bytes=most, max_failures=1)
    ids = np.array([1, 2, 3, 4, 5, 6, 7])
    urls = [[f"file:test/{name}"] for name in FILES] + [["file:test/7.jpg"]]
    download_split(pd.DataFrame({"image_id": ids, "url": urls}), tmp_path / "downloaded", params, tmp_path)

    fetch = {"max_bytes": most, "of_another_version": 1}
    settings = EnsembleSettings(store_size=32, jpeg_quality=80, fetch=fetch)
    files = [*(tmp_path / "test" / name for name in FILES), None]
    wanted = WantedImages(ids, np.array([0, 0, 0, 0, 1, 1, 1]), files)
    statuses = store_images(wanted, settings, tmp_path / "stored", "key")
    assert statuses == ["ok", "ok", "ok", "damaged", "not_an_image", "too_large", "missing"]
    for theirs, ours in zip(shard_paths(tmp_path / "downloaded"), shard_paths(tmp_path / "stored"), strict=True):
        expected, found = read_shard(theirs), read_shard(ours)
        assert found.bytes == expected.bytes
        assert found.status == expected.status
        assert found.image_id.tolist() == expected.image_id.tolist()
        assert (found.width.tolist(), found.height.tolist()) == (expected.width.tolist(), expected.height.tolist())

    first, second = shard_paths(tmp_path / "stored")
    before = first.stat().st_ino, second.stat().st_ino
    (tmp_path / "test/5.jpg").write_bytes(FILES["1.jpg"])
    assert store_images(wanted, settings, tmp_path / "stored", "key")[4] == "ok"
    assert first.stat().st_ino == before[0]  # kept
    assert second.stat().st_ino != before[1]


def test_files_are_found_by_their_paths_and_names(tmp_path: Path) -> None:
    for name in ("5.jpg", "deep/3.PNG", "deep/x.txt", "other/4.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    wanted = wanted_images(PLAIN, (np.array([3, 5, 9]), np.array([0, 0, 1])), tmp_path, 2)
    assert wanted.image_id.tolist() == [3, 5, 9]  # the order of registration
    assert wanted.shard.tolist() == [0, 0, 1]
    assert wanted.file == [tmp_path / "deep/3.PNG", tmp_path / "5.jpg", None]
    others = wanted_images(PLAIN, (np.array([3, 5]), np.array([0, 0])), tmp_path, 2)
    assert others.image_id.tolist() == [5, 3, 9]
    assert others.shard.tolist() == [0, 0, 1]

    texts = Texts(["deep/3.PNG", "far/5.jpg", "1e5"], {}, " ")
    named = Form(np.array([text_id(name) for name in texts.image]), ("a", "b"), texts)
    found = wanted_images(named, (named.image_id, np.zeros(3, np.int64)), tmp_path, 2)
    assert found.file == [tmp_path / "deep/3.PNG", tmp_path / "5.jpg", None]

    (tmp_path / "other/9.jpg").touch()
    (tmp_path / "deep/9.jpg").touch()
    with pytest.raises(UserError, match=r"9: expected one file, found .*deep/9\.jpg, .*other/9\.jpg"):
        wanted_images(PLAIN, (PLAIN.image_id, np.zeros(3, np.int64)), tmp_path, 2)
    with pytest.raises(UserError, match=r"no image of the submission lies there \(looked for 77"):
        wanted_images(Form(np.array([77])), (PLAIN.image_id, np.zeros(3, np.int64)), tmp_path, 2)


def test_a_sample_gives_rows_and_header(tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    file.write_text("image_id,label_id\n12,\n7,3 4\n")
    form = sample_form(file, PLAIN)
    assert (form.header, form.image_id.tolist()) == (("image_id", "label_id"), [12, 7])
    file.write_text("id,attribute_ids\n1e5,0\n007,\n")
    named = sample_form(file, Form(np.array([1]), ("a", "b"), Texts(["x"], {1: "one"}, ";")))
    assert named.texts == Texts(["1e5", "007"], {1: "one"}, ";")
    assert named.image_id.tolist() == [text_id("1e5"), text_id("007")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,x\n1,\n1,\n", "line 3: expected each image once, '1' is on line 2 too"),
        ("id,x\n1,\n1e5,\n", "line 3: expected an image's id, a whole number, found '1e5'"),
        ("id,x\n", "expected a row for each image, found none"),
        ("id\n1\n", "expected a header of two columns"),
        ("", "expected a header of two columns"),
    ],
)
def test_a_sample_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        sample_form(tmp_path / "s.csv", PLAIN)
    with pytest.raises(UserError, match="can't be read"):
        sample_form(tmp_path / "none.csv", PLAIN)


def test_labels_stand_in_a_submission_by_names_unless_ids_were_recorded() -> None:
    assert label_texts({"separator": " "}, [0, 1], ["culture::a", "tag::b"]) == {0: "culture::a", 1: "tag::b"}
    assert label_texts({"separator": " ", "labels": "ids"}, [0, 1], ["culture::a", "tag::b"]) == {0: "0", 1: "1"}
