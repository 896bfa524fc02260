"""Small ensembles for the tests: files of the right form, and rooms made of arithmetic."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelstack.ensemble.ensemble import Rooms
from labelstack.ensemble.folder import ONLY, EnsembleSettings, NetworkPart, Parts, Spec, View
from labelstack.stacking.deciding.decisions import Decision

LABELS = [(7, "red"), (3, "blue"), (11, "green")]
VIEWS = {"small": View(2), "large": View(4)}


def files(folder: Path, weights: dict[str, float], *, thresholds: dict[str, float] | None = None) -> Parts:
    """Parts whose model files hold nothing: models ``small`` (2 px) and ``large`` (4 px), stacker ``stack``."""
    for name in ("small", "large"):
        (folder / name).mkdir(parents=True)
        (folder / name / "model.keras").write_bytes(name.encode())
    (folder / "stack" / "fold-0").mkdir(parents=True)
    (folder / "stack" / "fold-0" / "config.json").write_text("{}")
    (folder / "blend.json").write_text(json.dumps({"weights": weights}))
    chosen = thresholds or {"7": 0.5, "3": 0.25, "11": 0.75}
    decision = Decision("per_label", thresholds=np.array(list(chosen.values()), np.float32)).to_dict()
    rule = {"strategy": "per_label", "thresholds": chosen, "decision": decision}
    (folder / "thresholds.json").write_text(json.dumps(rule))
    (folder / "params.yaml").write_text("seed: 1\n")
    return Parts(
        models={name: [NetworkPart(ONLY, folder / name / "model.keras", view)] for name, view in VIEWS.items()},
        stackers={"stack": folder / "stack"},
        blend=folder / "blend.json",
        thresholds=folder / "thresholds.json",
        labels=LABELS,
        settings=EnsembleSettings(batch_size=2),
        files={"params.yaml": folder / "params.yaml"},
    )


def rooms(calls: list[str]) -> Rooms:
    """Images are three bytes, a percentage each; ``large`` halves them, ``stack`` takes the models' maximum."""

    def decode(data: bytes, view: View) -> NDArray[np.uint8]:
        if len(data) != 3:
            raise ValueError("not an image")
        return np.full((view.image_size, view.image_size, 3), np.frombuffer(data, np.uint8), np.uint8)

    def small(x: NDArray[np.uint8]) -> NDArray[np.float32]:
        calls.append("small")
        assert x.shape[1:] == (2, 2, 3)
        return (x[:, 0, 0] / 100).astype(np.float32)

    def large(x: NDArray[np.uint8]) -> NDArray[np.float32]:
        calls.append("large")
        assert x.shape[1:] == (4, 4, 3)
        return (x[:, 3, 3] / 200).astype(np.float32)

    def stack(cube: NDArray[np.float32]) -> NDArray[np.float32]:
        calls.append("stack")
        assert cube.shape[1:] == (2, 3)
        return cube.max(axis=1)

    return Rooms(
        decode=decode,
        models={
            "small": lambda pixels: small(pixels[VIEWS["small"]]),
            "large": lambda pixels: large(pixels[VIEWS["large"]]),
        },
        stackers={"stack": stack},
        blend=lambda members, weights: sum(members[n] * np.float32(w) for n, w in weights.items()),  # type: ignore[arg-type,return-value]
        decide=lambda P: np.greater_equal(P, np.float32([0.5, 0.25, 0.75])),
    )


def spec(weights: dict[str, float]) -> Spec:
    """A spec of the same ensemble without any files."""
    return Spec(
        views={name: {ONLY: view} for name, view in VIEWS.items()},
        stackers=["stack"],
        weights=weights,
        decision={},
        label_id=[i for i, _ in LABELS],
        labels=[name for _, name in LABELS],
        settings=EnsembleSettings(batch_size=2),
    )
