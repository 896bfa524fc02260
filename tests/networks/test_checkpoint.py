"""Checkpoints: whole or passed over, two kept, never another training's."""

from __future__ import annotations

import numpy as np
import pytest

from labelstack.networks.checkpoint import Checkpoint, CheckpointFolder


def at(*scores: float) -> Checkpoint:
    history = [{"epoch": i + 1, "loss": 0.1 / 3, "holdout_macro_f2": score} for i, score in enumerate(scores)]
    value = np.float32(len(scores))
    return Checkpoint(history, {"weight/00000": np.full((50, 3), value)}, {"weight/00000": np.full(3, value)})


def names(folder: CheckpointFolder) -> list[str]:
    return sorted(path.name for path in folder.folder.iterdir())


def test_round_trip_and_what_is_kept(tmp_path):
    folder = CheckpointFolder(tmp_path / "work", "print")
    assert folder.latest() is None
    folder.save(at(0.5))
    folder.save(at(0.5, 0.4))
    assert names(folder) == ["best-00001.npz", "epoch-00001.npz", "epoch-00002.npz"]
    folder.save(at(0.5, 0.4, 0.6))
    assert names(folder) == ["best-00001.npz", "best-00003.npz", "epoch-00002.npz", "epoch-00003.npz"]
    folder.save(at(0.5, 0.4, 0.6, 0.1))
    assert names(folder) == ["best-00003.npz", "epoch-00003.npz", "epoch-00004.npz"]
    found = folder.latest()
    assert found.history == at(0.5, 0.4, 0.6, 0.1).history
    assert (found.state["weight/00000"] == 4).all()
    assert (found.best["weight/00000"] == 3).all()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
@pytest.mark.parametrize("kind", ["epoch", "best"])
def test_damage_means_the_checkpoint_before(tmp_path, damage, kind, caplog):
    folder = CheckpointFolder(tmp_path, "print")
    folder.save(at(0.1))
    folder.save(at(0.1, 0.2))
    path = tmp_path / f"{kind}-00002.npz"
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        position = content.rindex(np.float32(2).tobytes())
        content[position + 1] ^= 0xFF
    path.write_bytes({"truncated": content[:-30], "flipped": content, "empty": b""}[damage])
    found = folder.latest()
    assert len(found.history) == 1
    assert (found.best["weight/00000"] == 1).all()
    assert "passed over" in caplog.text


def test_without_holdout_nothing_is_best(tmp_path):
    folder = CheckpointFolder(tmp_path, "print")
    folder.save(Checkpoint([{"epoch": 1, "loss": 1.0}], {"x": np.zeros(2)}, None))
    assert names(folder) == ["epoch-00001.npz"]
    assert folder.latest().best is None


def test_another_training_is_not_resumed(tmp_path):
    CheckpointFolder(tmp_path, "print").save(at(0.1))
    assert CheckpointFolder(tmp_path, "another").latest() is None


def test_half_written_files_are_not_seen(tmp_path):
    folder = CheckpointFolder(tmp_path, "print")
    folder.save(at(0.1))
    (tmp_path / ".epoch-00002.npz.x1y2.npz").write_bytes(b"half")
    assert len(folder.latest().history) == 1
