"""Views of a model's own through the real `dvc repro`: what reruns, and a version that serves and rebuilds them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from labelstack.predictions import read_predictions
from tiny import TINY, Workspace

VIEWS = {"corners": {"crop": "nine", "scale": 1.25, "flip": "both"}, "near": {"random_crop": [0.6, 1], "n": 2}}


@pytest.mark.slow
def test_another_list_predicts_again_and_its_version_serves_and_rebuilds_it(copied: Workspace) -> None:
    models = TINY["models"]
    copied.params(prediction={"views": VIEWS})  # named by no list yet
    assert copied.repro() == {"settings"}
    copied.params(models=models | {"wide": models["wide"] | {"tta": ["corners", "ten_crops"]}})
    ran = copied.repro()
    assert {"predict@wide-all", "score@wide", "stack@cnn", "blend", "register"} <= ran
    assert not {stage for stage in ran if stage.startswith(("train", "download")) or stage == "predict@deep-all"}

    cards = [file.read_text() for file in copied.root.rglob("model_card.md")]
    said = "Test-time views, whose probabilities are averaged: "
    assert sorted(line.partition(said)[2] for card in cards for line in card.splitlines() if said in line) == [
        "corners (18), `ten_crops` (10); deep: identity, hflip.",
        "identity, hflip.",
    ]
    blend = read_predictions(copied.root / "data/ensemble/test.npy")
    images = {int(file.stem): str(file) for file in copied.root.glob("data/sample/images/test/*.jpg")}
    some = [int(image_id) for image_id in blend.image_id[:6]]
    asked = ["--model", "@candidate", "--json", "--all-probabilities", *(images[image_id] for image_id in some)]
    answers = copied.run("labelstack", "predict", *asked)
    found = np.array([list(json.loads(line)["probabilities"].values()) for line in answers.stdout.splitlines()])
    np.testing.assert_allclose(found, blend.rows_of(np.array(some)), atol=1e-5)

    options = ["--verify", "--submit", "--images", "data/images/test"]  # from the probe, and from every image
    rebuilt = copied.run("labelstack", "rebuild", "@candidate", "--to", "rebuilt", *options).stdout
    assert re.findall(r"^(\w+) +base model +\d+ +(\S+) +ok", rebuilt, re.M) == [("wide", "0"), ("deep", "0")]
