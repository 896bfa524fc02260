"""Tensors of a PyTorch state dict in its legacy file format, read without PyTorch and without running anything.

The file is five pickles (magic number, protocol, machine, state dict, keys of storages), then each storage's length and
bytes (source: ``torch.serialization._legacy_save`` and ``_legacy_load``).
"""

from __future__ import annotations

import io
import math
import pickle
import struct
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelstack.support.errors import UserError

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_STORAGES: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Storage(NamedTuple):  # tuples, whose content a pickle cannot change once they are made
    kind: str
    key: str
    length: int


class _View(NamedTuple):
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_state_dict(content: bytes, name: str) -> dict[str, NDArray[Any]]:
    """Tensors by name from the bytes of a file.

    Parameters
    ----------
    content : whole file
    name : of the file, for errors

    Returns
    -------
    dict of float32 or int64 arrays, in the file's order, of the shapes that PyTorch gives them

    Raises
    ------
    UserError
        The file is cut short, goes on behind its end, is of another format, or names anything else than tensors.
    """
    stream = io.BytesIO(content)
    try:
        magic, protocol, machine = (_Plain(stream).load() for _ in range(3))
        if (magic, protocol) != (_MAGIC, _PROTOCOL) or machine["little_endian"] is not True:
            raise ValueError("expected a little-endian state dict in the legacy format of torch.save")
        state = _StateDict(stream).load()
        keys = _Plain(stream).load()
        views = _views(state)
        storages = _storages(stream, keys, {view.storage for view in views.values()})
        return {tensor: _array(tensor, view, storages[view.storage.key]) for tensor, view in views.items()}
    except UserError as error:
        raise UserError(f"{name}: {error}; nothing of it was run") from None
    except Exception as error:  # damaged pickles raise whatever they like
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise UserError(f"{name}: cannot be read as tensors of PyTorch ({reason}): cut short or damaged") from None


class _Plain(pickle.Unpickler):
    """Numbers, texts, lists and dicts alone."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse every name."""
        raise UserError(f"asks for {module}.{name}, expected plain values; it is refused")


class _StateDict(pickle.Unpickler):
    """An ordered dict of tensors; each becomes a note of where its numbers lie."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for each name of a state dict; OrderedDict and our own function alone can be called."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, stride, *_: _View(storage, offset, size, stride)  # a new one each time
        if module == "torch" and name in _STORAGES:
            return name
        raise UserError(f"asks for {module}.{name}, expected tensors of {', '.join(_STORAGES)}; it is refused")

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage that comes behind the pickles: ("storage", kind, key, device, length, view or None)."""
        word, kind, key, _, length, view = pid
        if word != "storage" or kind not in _STORAGES or view is not None or not _count(length):
            raise ValueError(f"storage {key!r} is described as {pid!r}")
        return _Storage(kind, str(key), length)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _views(state: Any) -> dict[str, _View]:
    if not isinstance(state, OrderedDict):
        raise ValueError(f"expected an ordered dict of tensors, found {type(state).__name__}")
    for name, view in state.items():
        if not isinstance(name, str) or not isinstance(view, _View) or not isinstance(view.storage, _Storage):
            raise ValueError(f"{name!r} is no tensor")
    return dict(state)


def _storages(stream: io.BytesIO, keys: Any, named: set[_Storage]) -> dict[str, NDArray[Any]]:
    """Storages in the order of ``keys``, which must be those that the tensors name, up to the file's last byte."""
    expected = {storage.key: storage for storage in named}
    if len(expected) != len(named) or not isinstance(keys, list) or sorted(keys) != sorted(expected):
        raise ValueError("its list of storages is not that of its tensors")
    found = {}
    for key in keys:
        dtype, length = _STORAGES[expected[key].kind], expected[key].length
        (stated,) = struct.unpack("<q", stream.read(8))
        data = stream.read(length * dtype.itemsize)
        if stated != length or len(data) != length * dtype.itemsize:
            raise ValueError(f"storage {key} has {len(data)} bytes, expected {length} numbers of {dtype.itemsize}")
        found[key] = np.frombuffer(data, dtype)
    if rest := stream.read():
        raise ValueError(f"{len(rest)} bytes too many at the end")
    return found


def _array(name: str, view: _View, storage: NDArray[Any]) -> NDArray[Any]:
    """A copy of the part of a storage that a tensor is; none may reach beyond it or be larger."""
    offset, size, stride = view.offset, view.size, view.stride
    numbers = isinstance(size, tuple) and isinstance(stride, tuple) and all(map(_count, [offset, *size, *stride]))
    if not numbers or len(size) != len(stride) or 0 in size or math.prod(size) > len(storage):
        raise ValueError(f"{name}: size {size!r}, stride {stride!r}, offset {offset!r} in {len(storage)} numbers")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= len(storage):
        raise ValueError(f"{name}: reaches number {last} of {len(storage)}")
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False).copy()
