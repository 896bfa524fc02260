"""JSON files cut into records: the same values as the standard library's, wherever the scanner gives up."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.files import GOOD, problems_of, with_change, write
from labelstack.formats import imaterialist2018, json_file
from labelstack.formats.collector import collector_paused
from labelstack.formats.json_file import Records, load_list, load_object

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(json_values, max_size=12), st.integers(1, 5), st.booleans(), st.sampled_from([None, 1]))
def test_records_are_what_the_standard_library_reads(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any], at_once: int, ascii_only: bool, indent: int | None
) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(
        json.dumps({"other": [1], "rows": records}, ensure_ascii=ascii_only, indent=indent), "utf-8", "surrogatepass"
    )
    problems: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_file, "_AT_ONCE", at_once)
        content = load_object(path, problems)
        if content is None:  # a lone surrogate that is not escaped is no UTF-8
            assert "expected UTF-8 text" in problems[0]
            return
        rows = load_list(content, "rows", "a.json", problems)
        assert rows is not None
        assert len(rows) == len(records)
        assert list(rows) == records
        assert [type(row) for row in rows] == [type(record) for record in records]
    assert problems == []


@pytest.mark.parametrize(
    "value", ["NaN", "-Infinity", '"\\ud800"', "1e999", "9" * 5000, '{"deep": ' + "[" * 50 + "]" * 50 + "}"]
)
def test_what_only_the_standard_library_accepts_is_ignored_where_it_does_not_matter(tmp_path: Path, value: str) -> None:
    text = json.dumps(GOOD["test"])
    inside = text.replace('"image_id": 9', f'"extra": {value}, "image_id": 9')
    beside = text.replace('"info": {}', f'"info": {value}')
    for number, changed in enumerate((inside, beside)):
        assert changed != text
        dataset = imaterialist2018.read(write(tmp_path / str(number), GOOD | {"test": changed}))
        assert dataset.manifests["test"]["image_id"].tolist() == [9, 4]


def test_a_byte_order_mark_and_repeated_keys_are_read_as_before(tmp_path: Path) -> None:
    text = '\ufeff{"images": [7], "images": [{"image_id": 3, "url": "ü"}]}'
    dataset = imaterialist2018.read(write(tmp_path, GOOD | {"test": text}))
    assert dataset.manifests["test"]["url"].tolist() == [["ü"]]


@pytest.mark.parametrize("broken", ["]", ",", "{}", '{"image_id": 1 "url"', '{"image_id": 01}', '"\t"'])
def test_a_fault_after_thousands_of_records_has_its_line_and_column(tmp_path: Path, broken: str) -> None:
    lines = [f'{{"image_id": {i}, "url": "http://a/{i}"}},' for i in range(1, 3001)]
    text = '{"images": [\n' + "\n".join(lines) + "\n" + broken + "}"
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(text)
    (problem,) = problems_of(write(tmp_path, GOOD | {"test": text}))
    fault = expected.value
    assert problem == f"test.json: not valid JSON at line {fault.lineno}, column {fault.colno}: {fault.msg}"
    assert fault.lineno == 3002


def test_numbers_of_records_count_across_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_file, "_AT_ONCE", 3)
    records = [{"image_id": i, "url": "http://a"} for i in range(1, 11)]
    records[1]["url"] = ""
    records[8]["image_id"] = 4
    problems = problems_of(write(tmp_path, GOOD | {"test": {"images": records}}))
    assert problems[0].startswith("test.json: images[1] (image_id 2): url: expected")
    assert problems[1:] == [
        "test.json: images[8] (image_id 4): image_id: expected each id once, found it in record 3 too"
    ]


@pytest.mark.parametrize("annotations", [{}, None, 3, "text"])
def test_annotations_of_the_test_split_may_be_anything(tmp_path: Path, annotations: Any) -> None:
    content = with_change(lambda c: c["test"].update(annotations=annotations))
    assert imaterialist2018.read(write(tmp_path, content)).counts["test_annotations_ignored"] == 0


def test_records_too_deep_for_the_decoder_are_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_deep(content: bytes) -> Any:
        raise RecursionError

    monkeypatch.setattr(json_file, "_parse", too_deep)
    assert problems_of(write(tmp_path, GOOD))[0].endswith("found JSON nested too deeply to read")


def test_records_are_a_collection(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"rows": [1, {"a": 2}]}')
    rows = load_list(load_object(path, []) or {}, "rows", "a.json", [])
    assert isinstance(rows, Records)
    assert {"a": 2} in rows
    assert 3 not in rows


def test_the_collector_is_paused_and_goes_on() -> None:
    with collector_paused():
        assert not gc.isenabled()
        with collector_paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="x"), collector_paused():
        raise ValueError("x")
    assert gc.isenabled()
