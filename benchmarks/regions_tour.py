"""Garments with masks from the generator to the masks that are handed in: one command.

    pip install 'labelstack[pretrained]'
    python benchmarks/regions_tour.py FOLDER            # 3 segmenters, 6 networks
    python benchmarks/regions_tour.py FOLDER --small    # whether it runs
    python benchmarks/regions_tour.py FOLDER --print    # the figures of a folder in which it has run

Copies the project into the folder, puts benchmarks/regions_tour.yaml into its params.yaml, runs `dvc repro`, and prints
how well pixels are told apart (of train's photos by segmenters that did not learn from them, of test's by the mean of
all), how right the attributes of regions are, and the metric of iMaterialist 2019 with 95 % intervals over photos: `out
of fold`, train's photos by rules chosen on other folds, and `withheld`, the file itself on test photos whose instances
nothing saw.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from tour_folder import HERE, run_tour

SMALL: dict[str, Any] = {"sample": {"n_train": 150, "n_test": 40, "image_size": 64, "label_noise": 0.03}}
WHOLE = ("models", "second_round", "stackers", "thresholds", "segmenters", "regions", "region_rows")
SCORES = ("categories_alone", "with_attributes", "as_decided", "without_attributes", "gain")


def params_of(*, small: bool) -> dict[str, Any]:
    """The content of params.yaml: the default's with the tour's put in, sections of names whole."""
    content = yaml.safe_load((HERE.parent / "params.yaml").read_text(encoding="utf-8"))
    tour = yaml.safe_load((HERE / "regions_tour.yaml").read_text(encoding="utf-8"))
    if small:
        tour |= SMALL
        for model in tour["models"].values():
            model["epochs"] = 3
        for segmenter in tour["segmenters"].values():
            segmenter["phases"] = segmenter["phases"][:1]
    for key, value in tour.items():
        content[key] = value if key in WHOLE or not isinstance(value, dict) else content[key] | value
    return content  # type: ignore[no-any-return]


def print_figures() -> None:
    """Pixels, attributes, the metric."""
    pixels = json.loads(Path("metrics/segmentation.json").read_text())
    rows = json.loads(Path("metrics/region_rows.json").read_text())["splits"]
    masks = json.loads(Path("metrics/masks.json").read_text())
    scores = json.loads(Path("metrics/evaluation.json").read_text())["scores"]
    for title, told in (("train", pixels["train"]), ("withheld", masks.get("test_segmentation") or {})):
        for key, value in told.items():
            if isinstance(value, float):
                low, high = told.get("intervals", {}).get(key, (float("nan"),) * 2)
                print(f"{title + ' ' + key:<28}{value:.4f} [{low:.4f}, {high:.4f}]")
    for split, counted in rows.items():
        print(f"regions of {split:<17}{counted['predicted']} found, {counted['matched']} of them a true one")
    for name, found in scores.items():
        withheld = found.get("test_samples_f1", float("nan"))
        print(f"{name:<28}samples F1 {found['samples_f1_cross_fitted']:.4f} out of fold, {withheld:.4f} withheld")
    for part, title in (("out_of_fold", "out of fold"), ("test", "withheld")):
        print(title)
        for name in SCORES:
            if found := masks[part].get(name):
                print(f"  {name:<26}{found['score']:.4f} [{found['low']:.4f}, {found['high']:.4f}]")
    written = ", ".join(f"{category}: {how['set']} from {how['least']:g}" for category, how in masks["rule"].items())
    print(
        f"attributes are written of categories {written or 'none'}; {masks['with_attributes']} of {masks['instances']}"
    )


if __name__ == "__main__":
    run_tour("regions", params_of, print_figures)
