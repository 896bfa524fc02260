from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ensemble.ensembles import files, rooms, spec
from images.server import Server
from labelstack.ensemble.ensemble import Ensemble
from labelstack.ensemble.folder import ONLY, View, assemble_folder, read_spec
from labelstack.ensemble.image_sources import ImageSources
from labelstack.params.images import ImagesSection
from labelstack.stacking.deciding.decisions import Decision
from labelstack.stacking.deciding.group_calibration import GroupCalibration
from labelstack.support.errors import InputProblems, UserError
from stores import wait_for

IMAGE = bytes([60, 20, 80])


def test_images_become_labels() -> None:
    found = Ensemble(spec({"small": 0.5, "large": 0.5}), rooms([])).predict([IMAGE])
    assert list(found.columns) == ["label_id", "labels", "probability", "error"]
    row = found.iloc[0]  # mean of (.6 .2 .8) and (.3 .1 .4) against (.5 .25 .75): nothing
    assert row["label_id"] == []
    assert row["error"] is None
    found = Ensemble(spec({"small": 1.0}), rooms([])).predict([IMAGE], all_probabilities=True)
    assert found["label_id"][0] == [7, 11]
    assert found["labels"][0] == ["red", "green"]
    assert found["probability"][0] == pytest.approx([0.6, 0.8])
    assert found["probabilities"][0] == pytest.approx([0.6, 0.2, 0.8])


def test_stackers_get_the_cube_of_all_models() -> None:
    calls: list[str] = []
    ensemble = Ensemble(spec({"stack": 0.75, "large": 0.25, "small": 0}), rooms(calls))
    found = ensemble.predict([IMAGE], all_probabilities=True)
    assert found["probabilities"][0] == pytest.approx([0.6 * 0.75 + 0.3 * 0.25, 0.175, 0.7])
    assert calls == ["small", "large", "stack"]


def test_only_what_the_blend_needs_is_run() -> None:
    calls: list[str] = []
    ensemble = Ensemble(spec({"stack": 0.0, "small": 1.0, "large": 0.0}), rooms(calls))
    ensemble.predict([IMAGE])
    assert calls == ["small"]
    assert ensemble.spec.needed_models == ["small"]


def test_a_broken_image_is_a_row_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(IMAGE)
    images = [
        str(tmp_path / "a.jpg"),
        b"broken!",
        base64.b64encode(IMAGE).decode(),
        "gone.jpg",
        None,
        float("nan"),
        b"",
    ]
    found = Ensemble(spec({"small": 1.0}), rooms([])).predict(images, all_probabilities=True)
    assert len(found) == 7
    assert [bool(error) for error in found["error"]] == [False, True, False, True, True, True, True]
    assert found["label_id"].tolist() == [[7, 11], [], [7, 11], [], [], [], []]
    assert found["error"][1] == "the given bytes: not an image that can be read"
    assert "neither a readable image file nor base64" in found["error"][3]
    assert found["probabilities"][3] is None


def test_no_images_no_rows() -> None:
    assert Ensemble(spec({"small": 1.0}), rooms([])).predict([]).shape == (0, 4)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_batches_do_not_matter(count: int) -> None:
    images = [bytes([10 * i, 50, 90]) for i in range(count)]
    one = Ensemble(spec({"stack": 1.0}), rooms([])).predict(images, all_probabilities=True)
    settings = replace(spec({}).settings, batch_size=64)
    other = Ensemble(replace(spec({"stack": 1.0}), settings=settings), rooms([])).predict(
        images, all_probabilities=True
    )
    assert one["probabilities"].tolist() == other["probabilities"].tolist()


def test_threads_share_an_ensemble() -> None:
    """Each gets its own answers, one batch is predicted at a time, and the next is decoded meanwhile."""
    running: list[str] = []
    seen: list[tuple[str, ...]] = []
    made = rooms([])

    def small(x: Mapping[View, NDArray[np.uint8]]) -> NDArray[np.float32]:
        running.append("predict")
        seen.append(tuple(running))
        time.sleep(0.01)
        running.remove("predict")
        return made.models["small"](x)

    ensemble = Ensemble(spec({"small": 1.0}), replace(made, models={**made.models, "small": small}))
    answers: dict[int, list[list[float]]] = {}

    def ask(number: int) -> None:
        images = [bytes([number, 10 * i, 50]) for i in range(7)]
        answers[number] = ensemble.predict(images, all_probabilities=True)["probabilities"].tolist()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {("predict",)}
    for number in range(1, 5):
        np.testing.assert_allclose(answers[number], [[number / 100, i / 10, 0.5] for i in range(7)], atol=1e-6)


def test_later_batches_are_decoded_while_one_is_predicted() -> None:
    made, decoded = rooms([]), []

    def store(data: bytes) -> bytes:
        decoded.append(data)
        return data

    def small(x: Mapping[View, NDArray[np.uint8]]) -> NDArray[np.float32]:
        wait_for(lambda: len(decoded) >= 6, 60)
        decoded_then.append(len(decoded))
        return made.models["small"](x)

    decoded_then: list[int] = []
    ensemble = Ensemble(spec({"small": 1.0}), replace(made, store=store, models={**made.models, "small": small}))
    assert len(ensemble.predict([IMAGE] * 20)) == 20
    assert decoded_then[0] == 6  # its own batch of two, and two more; never all of them
    assert len(decoded) == 20


def test_an_image_is_stored_once_for_all_views() -> None:
    made, stored = rooms([]), []

    def store(data: bytes) -> bytes:
        stored.append(data)
        return data

    Ensemble(spec({"small": 0.5, "large": 0.5}), replace(made, store=store)).predict([IMAGE])
    assert stored == [IMAGE]


def test_web_images_and_patience() -> None:
    server = Server()
    server.delay = 0.3
    try:
        made = replace(
            rooms([]), decode=lambda data, view: np.full((view.image_size, view.image_size, 3), 90, np.uint8)
        )
        sources = ImageSources(ImagesSection(allow_hosts=[server.host], concurrency=1, retries=0))
        ensemble = Ensemble(spec({"small": 1.0}), made, sources)
        urls = [server.url(f"img/{i}.jpg") for i in range(8)]
        found = ensemble.predict([*urls[:1], IMAGE, server.url("gone.jpg")])
        assert found["error"].tolist() == [None, None, f"{server.host}: answered HTTP 410 (Gone)"]
        found = ensemble.predict(urls, patience_s=0.8, progress=False)
        assert found["error"].tolist()[0] is None
        assert found["error"].tolist()[-1] == f"{server.host}: no answer in time"
    finally:
        server.shutdown()
        server.server_close()


def test_the_folder_holds_everything(tmp_path: Path) -> None:
    weights = {"stack": 0.75, "small": 0.25}
    assemble_folder(tmp_path / "ensemble", files(tmp_path, weights))
    found = read_spec(tmp_path / "ensemble")
    assert found.views == {"small": {ONLY: View(2)}, "large": {ONLY: View(4)}}
    assert found.weights == weights
    assert found.label_id == [7, 3, 11]
    assert np.array_equal(Decision.from_dict(found.decision).thresholds, np.float32([0.5, 0.25, 0.75]))
    assert found.settings == spec(weights).settings
    assert (tmp_path / "ensemble/members/large/model.keras").read_bytes() == b"large"
    assert (tmp_path / "ensemble/stackers/stack/fold-0/config.json").exists()
    assert (tmp_path / "ensemble/files/params.yaml").read_text() == "seed: 1\n"


def test_links_are_an_economy_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError("across file systems")

    monkeypatch.setattr(os, "link", no_links)
    assemble_folder(tmp_path / "ensemble", files(tmp_path, {"small": 1}))
    assert (tmp_path / "ensemble/members/small/model.keras").read_bytes() == b"small"


def test_all_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    parts = replace(files(tmp_path, {"small": 1}), stackers={"stack": tmp_path / "nowhere"})
    (tmp_path / "small/model.keras").unlink()
    with pytest.raises(InputProblems) as raised:
        assemble_folder(tmp_path / "ensemble", parts)
    assert len(raised.value.problems) == 2


@pytest.mark.parametrize(
    ("weights", "thresholds", "text"),
    [
        ({"small": 0.5, "other": 0.5}, None, "'other' is neither"),
        ({"small": 0.0}, None, "no member has a weight"),
        ({"small": 1.0}, {"7": 0.5}, "each of the 3 labels"),
    ],
)
def test_contradictions_are_refused(
    tmp_path: Path, weights: dict[str, float], thresholds: dict[str, float] | None, text: str
) -> None:
    with pytest.raises(InputProblems, match=text):
        assemble_folder(tmp_path / "ensemble", files(tmp_path, weights, thresholds=thresholds))


def test_values_of_the_attributes_that_are_asked_for() -> None:
    group = ("shade_labels", "shade_labels", "tint_labels")
    rule = Decision("argmax", GroupCalibration(group, (1.0, 1.0)), group=group)
    calls: list[str] = []
    asked = replace(rooms(calls), decide=rule.decide, shown=rule.told)
    ensemble = Ensemble(replace(spec({"small": 1.0}), decision=rule.to_dict()), asked)
    every = ensemble.predict([bytes([30, 10, 40])])
    assert every["labels"].tolist() == [["red", "green"]]  # one of each group
    assert every["probability"][0] == pytest.approx([0.75, 1.0])
    for names in (["shade"], ["shade_labels"]):
        assert ensemble.predict([bytes([30, 10, 40])], attributes=names)["labels"].tolist() == [["red"]]
    with pytest.raises(UserError, match=r"has no hue \(there are: shade_labels, tint_labels\)"):
        ensemble.predict([bytes([30, 10, 40])], attributes=["hue"])
    with pytest.raises(UserError, match="its labels are not one value of each attribute"):
        Ensemble(spec({"small": 1.0}), rooms(calls)).predict([], attributes=["shade"])


def test_a_blend_within_groups_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    parts = files(tmp_path, {"small": 0.5, "large": 0.5, "stack": 0.0})
    group = ["x", "x", "y"]
    of_all = {name: [0.5, 0.5] for name in ("small", "large", "stack")}
    groups = {"group": group, "of_group": of_all, "temperature": of_all}
    content = {"weights": {"small": 0.5, "large": 0.5, "stack": 0.0}, "groups": groups}
    rule = Decision("argmax", GroupCalibration(tuple(group), (1.0, 1.0)), group=tuple(group))
    told = {"strategy": "argmax", "thresholds": None, "decision": rule.to_dict()}
    (tmp_path / "thresholds.json").write_text(json.dumps(told))
    (tmp_path / "blend.json").write_text(json.dumps(content))
    assemble_folder(tmp_path / "good", parts)
    assert read_spec(tmp_path / "good").groups == groups
    content["groups"] = groups | {"temperature": of_all | {"large": [1.0]}}
    (tmp_path / "blend.json").unlink()
    (tmp_path / "blend.json").write_text(json.dumps(content))
    with pytest.raises(InputProblems, match=r"groups.temperature: expected 2 numbers, one for each label group"):
        assemble_folder(tmp_path / "bad", parts)
