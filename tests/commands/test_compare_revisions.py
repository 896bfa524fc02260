"""Files of other commits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labelstack.commands.compare.workspace import _Revision
from labelstack.predictions import read_predictions, write_part, write_predictions


class Commit:
    """Files of a commit; those without bytes are not to be had."""

    def __init__(self, **files: bytes | None) -> None:
        self.files = files

    def read_bytes(self, path: str) -> bytes:
        name = Path(path).name.replace(".", "_")
        if name not in self.files:
            raise FileNotFoundError(2, "No such file or directory", path)
        if (content := self.files[name]) is None:
            raise OSError("the remote is away")
        return content


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_predictions_of_before_are_found(tmp_path: Path, suffix: str) -> None:
    ids, P = np.arange(3), np.array([[0.25], [0.5], [0.75]], np.float32)
    write = write_part if suffix == "npz" else write_predictions
    write(tmp_path / f"made.{suffix}", ids, P)
    commit = Commit(**{f"oof_{suffix}": (tmp_path / f"made.{suffix}").read_bytes()})
    at = _Revision(commit, tmp_path)
    found = at.predictions(Path("data/oof.npy"))
    assert found is not None
    np.testing.assert_array_equal(read_predictions(found).probability, P)
    assert at.lost == []


def test_predictions_that_cannot_be_had_are_said(tmp_path: Path) -> None:
    at = _Revision(Commit(oof_npy=None), tmp_path)
    assert at.predictions(Path("data/oof.npy")) is None
    assert at.lost == ["data/oof.npy"]
    assert _Revision(Commit(), tmp_path).predictions(Path("data/oof.npy")) is None
