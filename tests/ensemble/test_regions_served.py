"""A registered version with segmenters behind `labelstack serve`: a photo in, its regions out, over HTTP."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ensemble.region_parts import CATEGORIES, LABELS, ROWS, parts, photo
from ensemble.test_serving import Served
from labelstack.ensemble.ensemble import Ensemble
from labelstack.ensemble.folder import assemble_folder
from labelstack.ensemble.load_check import DIGEST
from labelstack.ensemble.log import log_ensemble
from labelstack.masks.run_geometry import boxes
from labelstack.masks.run_text import read_runs
from labelstack.params.tracking import TrackingSection
from labelstack.registry.versions import register
from labelstack.tracking.runs import connect
from stores import answers, free_port, wait_for
from tiny import REPOSITORY, environment

pytestmark = pytest.mark.slow
PHOTOS = [photo(seed) for seed in range(2)]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """What the ensemble says of the photos in this process."""
    folder = tmp_path_factory.mktemp("direct")
    made = parts(folder / "parts")
    assemble_folder(folder / "ensemble", made)
    return list(Ensemble.load(folder / "ensemble").regions(PHOTOS, all_probabilities=True)["regions"])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root, port = tmp_path_factory.mktemp("registered"), free_port()
    tracker = connect(TrackingSection(), root)
    with tracker.run("register", "ensemble") as run:
        logged = log_ensemble(run, parts(root / "parts"), requirements=REPOSITORY / "requirements.lock")
        tags = {"labelstack.files_digest": logged.files_digest, "labelstack.model_digest": logged.model_digest}
        register(tracker, "labelstack", "digest", lambda: logged, tags=tags)
    log, quiet = root / "log", {"MLFLOW_TRACKING_URI": tracker.uri, DIGEST: ""}
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["labelstack", "serve", "1", "--port", str(port)],
            cwd=root, env=environment() | quiet, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        wait_for(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}/ping"), 240)
        assert process.poll() is None, log.read_text()
        assert "files as registered" in log.read_text()
        yield Served(port, "", root, log, {})
    finally:
        process.kill()
        process.wait(30)


def test_photos_go_in_and_lists_of_regions_come_out(served: Served, expected: list[list[dict[str, Any]]]) -> None:
    sent = [base64.b64encode(data).decode() for data in PHOTOS]
    plain = served.rows([*sent, "gone.jpg"])
    whole = served.rows(sent, all_probabilities=True)
    assert [row["error"] is None for row in plain] == [True, True, False]
    assert plain[2]["regions"] == []
    assert any(len(regions) > 1 for regions in expected)  # else the test says little
    names, with_attributes = dict(CATEGORIES), 0
    for row, more, regions in zip(plain, whole, expected, strict=False):
        assert len(row["regions"]) == len(more["regions"]) == len(regions)
        for found, all_of, by in zip(row["regions"], more["regions"], regions, strict=True):
            same = ("category_id", "category", "attribute_id", "attributes", "box", "size", "runs")
            assert [found[key] for key in same] == [by[key] for key in same]
            assert found["category"] == names[found["category_id"]]
            np.testing.assert_allclose(found["score"], by["score"], atol=1e-5)
            np.testing.assert_allclose(found["probability"], by["probability"], atol=1e-5)
            np.testing.assert_allclose(all_of["probabilities"], by["probabilities"], atol=1e-5)
            assert len(all_of["probabilities"]) == (len(LABELS) if found["category_id"] in ROWS else 0)
            assert "probabilities" not in found
            mask, faults, _ = read_runs([found["runs"]], [found["size"][0]], [found["size"][1]])
            assert not faults
            assert boxes(mask)[0].tolist() == found["box"]
            with_attributes += bool(found["attributes"])
    assert with_attributes


def test_what_such_a_version_does_not_answer_is_said(served: Served) -> None:
    body = {"dataframe_records": [{"image": "gone.jpg"}], "params": {"attributes": "sleeve"}}
    status, told = served.post(body)
    assert status == 400
    assert "attributes: this version tells all attributes of regions; leave it out" in told
    assert "Traceback" not in served.log.read_text()
