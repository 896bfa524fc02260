"""A stacker of any kind for rows that know one label group each: fitted on each group's rows and labels alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from labelstack.params.stackers import STACKERS, StackerSection, section_of
from labelstack.scoring.attribute_rows import LabelGroups
from labelstack.stacking.array_checks import check_cube, check_targets
from labelstack.stacking.stackers.construction import load_stacker, make_stacker, reference_of
from labelstack.stacking.stackers.stacker import Stacker
from labelstack.support.errors import UserError
from labelstack.support.storage import read_json, replacing_dir, write_json

KIND = "by_group"


class ByGroup(BaseEstimator):  # type: ignore[misc]
    """One stacker of a kind for each label group.

    A group's stacker is fitted on the rows whose label is of that group, on its columns of the cube, with every model's
    probabilities divided by their sum there. Its answers are divided by their sum within the group, and every group
    has an equal part of the sum 1. A model that says nothing of a group, zeros or NaN in all rows, is left out of its
    cube; a group without rows in the fit is answered with the mean of the models.

    Parameters
    ----------
    kind : of the stackers
    settings : their other keys, as under ``stackers`` of params.yaml
    group : for each label its group
    """

    def __init__(self, *, kind: str, settings: dict[str, Any], group: Sequence[str]) -> None:
        self.kind = kind
        self.settings = settings
        self.group = group

    @classmethod
    def of(cls, section: StackerSection, group: Sequence[str]) -> Self:
        """Unfitted, of a section of params.yaml."""
        return cls(kind=section.kind, settings=section.model_dump(mode="json", exclude={"kind"}), group=list(group))

    @classmethod
    def around(cls, stacker: Stacker, group: Sequence[str]) -> Self:
        """Unfitted, of an unfitted stacker of a kind that params.yaml may name; ``ValueError`` for others."""
        kind = next((name for name in STACKERS.names() if section_of(name).stacker == reference_of(stacker)), None)
        if kind is None:
            raise ValueError(f"{type(stacker).__name__} is no kind of stackers: {', '.join(STACKERS.names())}")
        fields = section_of(kind).model_fields
        settings = {name: value for name, value in stacker.get_params().items() if name in fields}
        return cls(kind=kind, settings=settings, group=list(group))

    def fit(self, cube: ArrayLike, Y: ArrayLike, *, progress: str = "") -> Self:
        """Train on a cube [n, n_models, n_labels], which may hold NaN, and labels 0/1 or soft [n, n_labels].

        Sets ``parts_`` (for each group a stacker, or None), ``models_`` (for each group the models it sees) and
        ``shape_`` (n_models, n_labels). Raises ``ValueError`` that names the argument on input that does not fit.
        """
        groups = LabelGroups(self.group)
        values = said_of_groups(cube, groups)
        targets = check_targets(Y, (values.shape[0], values.shape[2]))
        known = groups.known(targets)
        self.shape_ = (values.shape[1], values.shape[2])
        self.parts_: list[Stacker | None] = []
        self.models_: list[list[int]] = []
        for name, columns in zip(groups.names, groups.columns, strict=True):
            mine = np.flatnonzero(known == name)
            models = np.flatnonzero(values[mine][:, :, columns].any(axis=(0, 2)))
            self.models_.append(models.tolist())
            if not len(models) or len(columns) == 1:
                self.parts_.append(None)
                continue
            part = make_stacker(section_of(self.kind).model_validate({"kind": self.kind, **self.settings}))
            part.fit(_own(values, mine, models, columns), targets[np.ix_(mine, columns)], progress=f"{progress} {name}")
            self.parts_.append(part)
        return self

    def predict_proba(self, cube: ArrayLike) -> NDArray[np.float32]:
        """Probabilities float32 [n, n_labels] for a cube with the models and labels of the fit."""
        check_is_fitted(self, "parts_")
        groups = LabelGroups(self.group)
        values = said_of_groups(cube, groups, fitted=self.shape_)
        every, found = np.arange(len(values)), np.empty((len(values), self.shape_[1]))
        for part, models, columns in zip(self.parts_, self.models_, groups.columns, strict=True):
            own = _own(values, every, np.array(models or range(self.shape_[0])), columns)
            answer = own.mean(axis=1, dtype=np.float64) if part is None else part.predict_proba(own).astype(np.float64)
            total = answer.sum(axis=1, keepdims=True)
            shares = np.divide(answer, total, out=np.full(answer.shape, 1 / len(columns)), where=total > 0)
            found[:, columns] = shares / len(groups.names)
        return found.astype(np.float32)

    def save(self, directory: str | Path) -> None:
        """Write ``config.json`` and a folder ``group-<i>`` for each group's stacker; whole or not at all."""
        check_is_fitted(self, "parts_")
        with replacing_dir(directory) as temporary:
            for place, part in enumerate(self.parts_):
                if part is not None:
                    part.save(temporary / f"group-{place}")
            write_json(temporary / "config.json", self._config())

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Read what ``save`` wrote; raise ``UserError`` when it is something else."""
        directory = Path(directory)
        config = read_json(directory / "config.json")
        try:
            if config["kind"] != KIND or config["params"]["kind"] not in STACKERS:
                raise ValueError(f"kind is {config['kind']!r} of {config['params'].get('kind')!r}")
            stacker = cls(**config["params"])
            stacker.shape_ = (int(config["n_models"]), int(config["n_labels"]))
            stacker.models_ = [[int(model) for model in models] for models in config["models"]]
            there = [bool(fitted) for fitted in config["fitted"]]
            if len(there) != len(stacker.models_) or len(there) != len(LabelGroups(stacker.group).names):
                raise ValueError(f"{len(there)} label groups")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{directory}/config.json: not a saved stacker by label group ({error})") from None
        stacker.parts_ = [
            load_stacker(directory / f"group-{place}") if fitted else None  # type: ignore[misc]
            for place, fitted in enumerate(there)
        ]
        return stacker

    def digest(self) -> str:
        """SHA-256 in hex over parameters, shape and the digests of the groups' stackers."""
        check_is_fitted(self, "parts_")
        parts = ["" if part is None else part.digest() for part in self.parts_]
        return hashlib.sha256(json.dumps([self._config(), parts], sort_keys=True).encode()).hexdigest()

    def _config(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "n_models": self.shape_[0],
            "n_labels": self.shape_[1],
            "params": {"kind": self.kind, "settings": self.settings, "group": list(self.group)},
            "models": self.models_,
            "fitted": [part is not None for part in self.parts_],
        }


def said_of_groups(
    cube: ArrayLike, groups: LabelGroups, *, fitted: tuple[int, int] | None = None
) -> NDArray[np.float32]:
    """A cube float [n, n_models, n_labels] checked, every group of it with the sum 1 / n_groups, or 0 (or NaN) said."""
    values = np.asarray(cube)
    if values.ndim != 3 or values.shape[2] != len(groups.group):
        raise ValueError(f"cube has shape {list(values.shape)}, expected [n, n_models, {len(groups.group)} labels]")
    absent = np.isnan(values)
    check_cube(np.where(absent, 0, values), fitted=fitted)
    return groups.equal_parts(values)


def _own(
    values: NDArray[np.float32], rows: NDArray[np.int64], models: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.float32]:
    """A group's cube [rows, models, columns] with rows of sum 1, equal parts where nothing is said."""
    own = values[np.ix_(rows, models, columns)].astype(np.float64)
    total = own.sum(axis=2, keepdims=True)
    return np.divide(own, total, out=np.full(own.shape, 1 / len(columns)), where=total > 0).astype(np.float32)
