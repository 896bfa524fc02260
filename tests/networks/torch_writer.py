"""Files as torch.save writes them in its legacy format, without PyTorch: also ones that ask for more than tensors."""

from __future__ import annotations

import io
import pickle
import struct
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = 0x1950A86A20F9469CFC6C
MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
KINDS = {np.dtype("f4"): "FloatStorage", np.dtype("i8"): "LongStorage", np.dtype("f8"): "DoubleStorage"}


class Name:
    """A name that a pickle asks its reader for."""

    def __init__(self, text: str) -> None:
        self.module, _, self.name = text.rpartition(".")

    def __call__(self) -> None:
        raise AssertionError("for pickle alone, which wants something that can be called")


class Storage:
    def __init__(self, pid: tuple[Any, ...]) -> None:
        self.pid = pid


class Call:
    """What a pickle makes by calling a name."""

    def __init__(self, name: str, *arguments: Any) -> None:
        self.name, self.arguments = name, arguments


class Writer(pickle._Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return obj.pid if isinstance(obj, Storage) else None

    def reducer_override(self, obj: Any) -> Any:
        return (Name(obj.name), obj.arguments) if isinstance(obj, Call) else NotImplemented

    def save_name(self, obj: Name) -> None:
        self.write(f"c{obj.module}\n{obj.name}\n".encode())

    dispatch = pickle._Pickler.dispatch | {Name: save_name}


def pickled(value: Any) -> bytes:
    stream = io.BytesIO()
    Writer(stream, 2).dump(value)
    return stream.getvalue()


def tensor(key: str, array: NDArray[Any], **changes: Any) -> Call:
    """A tensor over all of a storage; ``changes``: kind, length, offset, size, stride, view."""
    steps = tuple(step // array.itemsize for step in array.strides)
    given = {"kind": KINDS[array.dtype], "length": array.size, "offset": 0, "size": array.shape, "stride": steps}
    given |= {"view": None} | changes
    storage = Storage(("storage", Name(f"torch.{given['kind']}"), key, "cpu", given["length"], given["view"]))
    hooks = OrderedDict()
    return Call(
        "torch._utils._rebuild_tensor_v2", storage, given["offset"], given["size"], given["stride"], False, hooks
    )


def raw(array: NDArray[Any]) -> bytes:
    """A storage: its length and its numbers in the order of memory."""
    return struct.pack("<q", array.size) + array.tobytes("A")


def file_of(state: Any, keys: list[str], storages: bytes, *, machine: Any = MACHINE, magic: Any = MAGIC) -> bytes:
    return b"".join([pickled(magic), pickled(1001), pickled(machine), pickled(state), pickled(keys), storages])


def written(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """A file of tensors, one storage each, in an order that is not that of the names."""
    state = OrderedDict((name, tensor(f"key of {name}", array)) for name, array in tensors.items())
    names = sorted(tensors, key=lambda name: name[::-1])
    return file_of(state, [f"key of {name}" for name in names], b"".join(raw(tensors[name]) for name in names))
