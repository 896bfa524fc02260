"""Files of weights that are cut off, claim too much or hold something else: refused with the reason."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from labelstack.networks.backbones import safetensors_file
from labelstack.networks.backbones.safetensors_file import read_safetensors
from labelstack.support.errors import InputProblems, UserError


def _file(folder: Path, header: Any, body: bytes = b"", claimed: int | None = None) -> Path:
    text = json.dumps(header).encode()
    file = folder / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(text) if claimed is None else claimed) + text + body)
    return file


def _entry(kind: str, shape: list[int], end: int) -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [0, end]}


def test_types_and_axes_are_the_files(tmp_path: Path) -> None:
    given = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.full((), 7, np.int64)}
    save_file(given, tmp_path / "a.safetensors")
    found = read_safetensors(tmp_path / "a.safetensors")
    assert {name: (array.dtype, array.tolist()) for name, array in found.items()} == {
        "a": (np.float32, [[0, 1, 2], [3, 4, 5]]),
        "n": (np.int64, 7),
    }


@pytest.mark.parametrize(("kind", "numbers"), [("F16", "003c00c0"), ("BF16", "803f00c0")])
def test_half_precision_is_widened(kind: str, numbers: str, tmp_path: Path) -> None:
    found = read_safetensors(_file(tmp_path, {"a": _entry(kind, [2], 4)}, bytes.fromhex(numbers)))
    assert found["a"].dtype == np.float32
    assert found["a"].tolist() == [1.0, -2.0]


@pytest.mark.parametrize(
    ("header", "body", "claimed"),
    [
        pytest.param({"a": _entry("F32", [4], 16)}, b"\0" * 12, None, id="cut off"),
        pytest.param({"a": _entry("F32", [4], 16)}, b"\0" * 20, None, id="too long"),
        pytest.param({"a": _entry("F32", [1 << 40, 1 << 40], 8)}, b"\0" * 8, None, id="a shape beyond all files"),
        pytest.param({"a": _entry("F32", [5], 16)}, b"\0" * 16, None, id="a shape beyond the tensor"),
        pytest.param({}, b"", 2 << 30, id="a header of 2 GB"),
        pytest.param({}, b"", 40, id="a header beyond the file"),
        pytest.param([1], b"", None, id="another header"),
    ],
)
def test_what_is_no_whole_file_is_refused(header: Any, body: bytes, claimed: int | None, tmp_path: Path) -> None:
    file = _file(tmp_path, header, body, claimed)
    with pytest.raises(UserError, match=r"model\.safetensors: no whole \.safetensors file \(.+\); fetch or convert it"):
        read_safetensors(file)


def test_an_empty_file_and_a_pickle_of_that_name(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    for content in (b"", b"PK\x03\x04" + b"\0" * 100):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"no whole \.safetensors file"):
            read_safetensors(file)


def test_tensors_of_other_types_are_named_all(tmp_path: Path) -> None:
    header = {"a": _entry("F64", [1], 8), "b": _entry("BOOL", [1], 1), "c": _entry("F32", [1], 4)}
    header["b"]["data_offsets"], header["c"]["data_offsets"] = [8, 9], [9, 13]
    with pytest.raises(InputProblems, match="2 problems") as caught:
        read_safetensors(_file(tmp_path, header, b"\0" * 13))
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["a", "b"]
    assert caught.value.problems[0] == "a: expected numbers of the type F32, I64, F16, BF16, found F64"


def test_a_file_too_large_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.safetensors"
    with file.open("wb") as opened:
        os.truncate(opened.fileno(), safetensors_file.MOST_BYTES + 1)  # sparse
    with pytest.raises(UserError, match="2,147,483,649 bytes; no network here has a file of more"):
        read_safetensors(file)
