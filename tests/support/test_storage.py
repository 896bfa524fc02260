import hashlib
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labelstack.support.errors import UserError
from labelstack.support.storage import read_json, replacing, replacing_dir, sha256, split_s3_url, writable, write_json


def fail_halfway(path: Path, error: type[BaseException]) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise error


def fail_halfway_in_folder(path: Path, error: type[BaseException]) -> None:
    with replacing_dir(path) as temporary:
        (temporary / "half").write_text("new")
        raise error


def test_replacing_makes_folders_and_puts_the_file_in_place(tmp_path):
    target = tmp_path / "a" / "b.txt"
    with replacing(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".txt"
        assert not target.exists()
        temporary.write_text("new")
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_replacement_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "b.txt"
    target.write_text("old")
    with pytest.raises(error):
        fail_halfway(target, error)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_first_write_leaves_nothing(tmp_path):
    with pytest.raises(ValueError):
        fail_halfway(tmp_path / "b.txt", ValueError)
    assert list(tmp_path.iterdir()) == []


def test_replacing_dir_replaces_the_whole_folder(tmp_path):
    target = tmp_path / "folder"
    target.mkdir()
    (target / "stale").write_text("old")
    with replacing_dir(target) as temporary:
        assert list(temporary.iterdir()) == []
        (temporary / "fresh").write_text("new")
        assert (target / "stale").exists()
    assert [path.name for path in target.iterdir()] == ["fresh"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o755
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_folder_leaves_the_old_one_and_nothing_else(tmp_path, error):
    target = tmp_path / "folder"
    target.mkdir()
    (target / "kept").write_text("old")
    with pytest.raises(error):
        fail_halfway_in_folder(target, error)
    assert [path.name for path in target.iterdir()] == ["kept"]
    assert list(tmp_path.iterdir()) == [target]


def test_sha256_is_that_of_the_bytes(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON)
def test_json_comes_back_as_it_was(tmp_path, content):
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content


def test_json_is_indented_in_the_given_order_and_not_escaped(tmp_path):
    write_json(tmp_path / "a.json", {"z": 1, "a": ["größer"]})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "z": 1,\n  "a": [\n    "größer"\n  ]\n}\n'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_what_json_does_not_know(tmp_path, value):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"score": value})
    assert json.loads((tmp_path / "a.json").read_text()) == 1
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n "b": }\n', r"line 2, column 7"),
        (b"", r"line 1, column 1"),
        (b'"gr\xf6\xdfer"', r"not UTF-8 text \(byte 3\)"),
        (b'[1, 2', r"line 1, column 6"),
    ],
)  # fmt: skip
def test_malformed_json_is_located(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_json(tmp_path / "a.json")
    assert "a.json" in str(caught.value)


def test_missing_json_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.json: not found"):
        read_json(tmp_path / "gone.json")


def test_s3_urls_are_split():
    assert split_s3_url("s3://bucket/key") == ("bucket", "key")
    assert split_s3_url("s3://bucket/a/b c/d?e#f.jpg") == ("bucket", "a/b c/d?e#f.jpg")


@given(st.from_regex(r"[a-z0-9][a-z0-9.-]{2,20}", fullmatch=True), st.text(min_size=1, max_size=30))
def test_every_s3_key_survives_splitting(bucket, key):
    assert split_s3_url(f"s3://{bucket}/{key}") == (bucket, key)


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/", "s3:///key", "https://bucket/key", "bucket/key", ""])
def test_other_urls_are_refused(url):
    with pytest.raises(UserError, match="expected s3://bucket/key"):
        split_s3_url(url)


def test_a_name_as_long_as_names_may_be_can_be_written(tmp_path):
    for name in ("a" * 251 + ".csv", "ü" * 127, "a." + "b" * 253):
        with replacing(tmp_path / name) as temporary:
            temporary.write_text("new")
    with replacing_dir(tmp_path / ("f" * 255)) as temporary:
        (temporary / "file").touch()
    assert len(list(tmp_path.iterdir())) == 4


def test_what_can_be_written_is_found_out_without_making_anything(tmp_path, monkeypatch):
    (tmp_path / "old.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "gone")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for name in ("old.csv", "new.csv", "a/b/new.csv", "link.csv", str(tmp_path / "new.csv"), "a" * 255):
        assert writable(name) == Path(name)
    assert sorted(tmp_path.rglob("*")) == before


NOWHERE = [
    (".", r": is a folder; name a file"),
    ("", r": is a folder; name a file"),
    ("folder/", r": is a folder; name a file"),
    ("file/new.csv", r"can't be written, .*file is a file"),
    ("file/a/b/new.csv", r"can't be written, .*file is a file"),
    ("gone/new.csv", r"can't be written, .*gone leads nowhere"),
    ("gone/a/new.csv", r"can't be written, .*gone leads nowhere"),
    ("loop/new.csv", r"can't be written"),
    ("/proc/new.csv", r"nothing can be put into /proc"),
    ("/proc/a/b/new.csv", r"nothing can be put into /proc"),
    ("/dev/null", r"is a device or a pipe"),
    ("pipe", r"is a device or a pipe"),
    ("x" * 300, r"can't be written \(File name too long\)"),
    ("a/" + "x" * 300 + "/b.csv", r"longer than 255 bytes"),
]


@pytest.mark.parametrize(("name", "text"), NOWHERE)
def test_what_cannot_be_written_is_said_in_a_sentence(tmp_path, monkeypatch, name, text):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "gone").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=text) as caught:
        writable(name, "--out")
    assert str(caught.value).startswith("--out ")
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "gone", "loop", "pipe"]
