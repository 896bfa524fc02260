"""Finished networks of a second-round model outlive what DVC clears."""

from __future__ import annotations

from pathlib import Path

import pytest

from labelstack.stages.members import Network
from labelstack.stages.work.second_networks import keep, restored

OWN = Network("closer", "0", "second round")


def test_a_finished_network_comes_back_and_a_half_cleared_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    work = Path("data/work/second/closer/digest/0")
    assert not restored(OWN, work)
    OWN.folder.mkdir(parents=True)
    for file, text in ((OWN.weights, "w"), (OWN.history, "epoch,loss,seconds\n1,0.5,3\n"), (OWN.run_file, "{}")):
        file.write_text(text)
    work.mkdir(parents=True)
    (work / "epoch-00001.npz").write_text("a checkpoint")
    keep(OWN, work)
    assert [file.name for file in work.iterdir()] == ["finished"]
    for file in OWN.folder.iterdir():
        file.unlink()
    (OWN.folder / "stale.keras").write_text("of another run")
    assert restored(OWN, work)
    assert sorted(file.name for file in OWN.folder.iterdir()) == ["history.csv", "model.keras", "run.json"]
    assert OWN.weights.read_text() == "w"
    (work / "finished/run.json").unlink()
    assert not restored(OWN, work)
