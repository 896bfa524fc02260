"""State dicts of PyTorch: what is read, and all that is refused without being run."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelstack.networks.backbones.torch_file import read_state_dict
from labelstack.support.errors import UserError
from networks.torch_writer import MACHINE, Call, Name, file_of, pickled, raw, tensor, written

MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)
TENSORS = {
    "stem.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7,
    "turned": np.asfortranarray(MATRIX),
    "count": np.array(123456789012, np.int64),
    "one": np.array([1.5], np.float32),
}


def test_tensors_by_name_whatever_their_order_in_memory() -> None:
    found = read_state_dict(written(TENSORS), "a.pth")
    assert list(found) == list(TENSORS)
    for name, array in TENSORS.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert np.array_equal(found[name], array)
        assert found[name].flags.writeable


def test_views_of_one_storage() -> None:
    row = tensor("0", MATRIX, offset=3, size=(3,), stride=(1,))
    column = tensor("0", MATRIX, offset=1, size=(2,), stride=(3,))
    found = read_state_dict(file_of(OrderedDict(row=row, column=column), ["0"], raw(MATRIX)), "a.pth")
    assert found["row"].tolist() == [3, 4, 5]
    assert found["column"].tolist() == [1, 4]


def test_metadata_that_pytorch_sets_on_the_dict_is_passed_over() -> None:
    state = OrderedDict(w=tensor("0", MATRIX))
    state._metadata = OrderedDict(version=1)
    assert list(read_state_dict(file_of(state, ["0"], raw(MATRIX)), "a.pth")) == ["w"]


def test_a_file_cut_short_anywhere_or_continued_is_refused() -> None:
    content = written(TENSORS)
    for end in [*range(0, len(content), 7), len(content) - 1]:
        with pytest.raises(UserError, match=r"a\.pth: "):
            read_state_dict(content[:end], "a.pth")
    with pytest.raises(UserError, match="3 bytes too many at the end"):
        read_state_dict(content + b"abc", "a.pth")


class _Runs:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


def test_a_pickle_that_calls_a_function_is_refused_and_nothing_is_run(tmp_path: Path) -> None:
    trace = tmp_path / "was_run"
    called = Call("os.mkdir", str(trace))
    storages = raw(MATRIX)
    hostile = {
        "as the magic number": file_of(OrderedDict(), [], b"", magic=called),
        "as the machine": file_of(OrderedDict(), [], b"", machine=MACHINE | {"x": called}),
        "as the state": file_of(called, [], b""),
        "as a tensor": file_of(OrderedDict(w=called), [], b""),
        "as a size": file_of(OrderedDict(w=tensor("0", MATRIX, size=called)), ["0"], storages),
        "as the keys": file_of(OrderedDict(w=tensor("0", MATRIX)), called, storages),
        "a whole pickle": pickle.dumps(_Runs(trace)),
    }
    for place, content in hostile.items():
        with pytest.raises(UserError, match=r"a\.pth: asks for (os|posix)\.mkdir.*; nothing of it was run"):
            read_state_dict(content, "a.pth")
        assert not trace.exists(), place
    pickle.loads(hostile["a whole pickle"])
    assert trace.exists()  # which a reader that lets functions be called would have made


@pytest.mark.parametrize(
    "name",
    ["builtins.eval", "builtins.getattr", "torch._utils._rebuild_tensor", "torch.DoubleStorage", "torch.load",
     "collections.defaultdict", "os.system", "torch.FloatStorage.x"],
)  # fmt: skip
def test_names_beyond_those_of_a_state_dict_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"asks for {name}"):
        read_state_dict(file_of(OrderedDict(w=Name(name)), [], b""), "a.pth")


def test_storages_of_another_type_are_refused() -> None:
    doubles = np.zeros(3)
    with pytest.raises(UserError, match=r"asks for torch\.DoubleStorage, expected tensors of FloatStorage"):
        read_state_dict(file_of(OrderedDict(w=tensor("0", doubles)), ["0"], raw(doubles)), "a.pth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (2, 4), "stride": (3, 1)}, r"w: size \(2, 4\)"),
        ({"offset": 1}, "w: reaches number 6 of 6"),
        ({"stride": (4, 1)}, "w: reaches number 6 of 6"),
        ({"size": (10**12,), "stride": (0,)}, "w: size"),
        ({"size": (2, -3)}, "w: size"),
        ({"size": (0, 3)}, "w: size"),
        ({"offset": -1}, "w: size"),
        ({"offset": True}, "w: size"),
        ({"stride": (-3, 1)}, "w: size"),
        ({"stride": (3,)}, "w: size"),
        ({"size": [2, 3]}, "w: size"),
        ({"length": 7}, "storage 0 has 24 bytes, expected 7 numbers of 4"),
        ({"length": -1}, "storage '0' is described as"),
        ({"length": 10**15}, "storage 0 has"),
        ({"view": (0, 1)}, "storage '0' is described as"),
    ],
)
def test_tensors_that_do_not_fit_their_storage_are_refused(changes: dict[str, Any], message: str) -> None:
    content = file_of(OrderedDict(w=tensor("0", MATRIX, **changes)), ["0"], raw(MATRIX))
    with pytest.raises(UserError, match=rf"a\.pth: cannot be read as tensors of PyTorch \({message}"):
        read_state_dict(content, "a.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut short"),
        (b"PK\x03\x04 the newer format", "cannot be read"),
        (file_of(OrderedDict(), [], b"", magic=1), "legacy format"),
        (file_of(OrderedDict(), [], b"", machine=MACHINE | {"little_endian": False}), "little-endian"),
        (file_of({"w": tensor("0", MATRIX)}, ["0"], raw(MATRIX)), "expected an ordered dict of tensors, found dict"),
        (file_of(OrderedDict(w=3), [], b""), "'w' is no tensor"),
        (file_of(OrderedDict(w=(1, 2, 3, 4)), [], b""), "'w' is no tensor"),
        (file_of(OrderedDict({5: tensor("0", MATRIX)}), ["0"], raw(MATRIX)), "5 is no tensor"),
        (file_of(OrderedDict(w=tensor("0", MATRIX)), ["1"], raw(MATRIX)), "list of storages"),
        (file_of(OrderedDict(w=tensor("0", MATRIX)), ["0", "0"], raw(MATRIX) * 2), "list of storages"),
        (file_of(OrderedDict(w=tensor("0", MATRIX)), {"0": 1}, raw(MATRIX)), "list of storages"),
        (
            file_of(OrderedDict(w=tensor("0", MATRIX), v=tensor("0", MATRIX, length=5)), ["0"], raw(MATRIX)),
            "list of storages",
        ),
        (file_of(OrderedDict(w=Call("torch._utils._rebuild_tensor_v2", 1, 0, (), ())), [], b""), "'w' is no tensor"),
        (pickled(1) + b"\x80\x02.", "cut short or damaged"),
    ],
)
def test_other_files_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_state_dict(content, "a.pth")
