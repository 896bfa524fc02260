"""What a person sees of registry versions in the MLflow UI, in a real browser."""

from __future__ import annotations

import json
from pathlib import Path

from browser import browser
from tiny import Workspace
from ui_pictures import mlflow_ui, registry_pages


def test_the_registry_shows_versions_with_aliases_and_the_model_card(copied: Workspace, tmp_path: Path) -> None:
    first = json.loads((copied.root / "models/ensemble/registration.json").read_text())
    copied.params(images={"jpeg_quality": 91})  # another way to read images: another ensemble with the same scores
    copied.run("labelstack", "stage", "register")
    second = json.loads((copied.root / "models/ensemble/registration.json").read_text())
    assert (int(first["version"]), int(second["version"])) == (1, 2)
    with mlflow_ui(copied.root) as url, browser() as window:
        window.viewport(1500, 900)
        texts = registry_pages(window, url, "labelstack", 2, tmp_path)
        tables = window.count("table")
    listed = texts["registry"]
    assert listed.index("Version 2") < listed.index("Version 1")
    assert listed.index("Version 2") < listed.index("@ candidate") < listed.index("Version 1")
    assert listed.index("Version 1") < listed.index("@ champion")

    card = texts["version"]
    evaluation = json.loads((copied.root / "metrics/evaluation.json").read_text())
    assert "@ candidate" in card
    assert "@ champion" not in card
    assert tables >= 2  # the card's tables are rendered, not shown as bars and dashes
    assert "|---" not in card
    for name in ("wide", "deep", "cnn", "xgboost", second["digest"]):
        assert name in card
    assert f"{evaluation['scores']['blend']['samples_f1_cross_fitted']:.4f}"[:5] in card
    assert f"{evaluation['n_labels']} labels" in card
    for name in ("registry", "version"):
        assert (tmp_path / f"mlflow-{name}.png").stat().st_size > 20_000
