"""Images that nobody could download: still scored, still in the submission."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from labelstack.params import Params
from labelstack.predictions import Predictions
from labelstack.stacking.deciding.decisions import Decision
from labelstack.stages import paths
from labelstack.stages.label_sets import label_sets, prior_labels
from tiny import REPOSITORY, merged


@pytest.fixture
def labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths.LABELS.parent.mkdir(parents=True)
    pd.DataFrame(
        {"label_id": [3, 5, 9], "name": list("abc"), "n_train": [50, 20, 5], "train_frequency": [0.5, 0.2, 0.05]}
    ).to_parquet(paths.LABELS)


def params(**change: object) -> Params:
    return Params(**merged(yaml.safe_load((REPOSITORY / "params.yaml").read_text()), change))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"thresholds": {"fixed": 0.2}}, [True, True, False]),
        ({"thresholds": {"fixed": 0.9}}, [True, False, False]),
        ({"submission": {"missing": "blank"}}, [False, False, False]),
    ],
)
def test_the_answer_without_an_image(labels: None, change: dict[str, object], expected: list[bool]) -> None:
    assert prior_labels(params(**change)).tolist() == expected


def test_every_id_is_answered_in_the_given_order(labels: None) -> None:
    predictions = Predictions(np.array([7, 2]), np.array([[0.9, 0.1, 0.1], [0.1, 0.1, 0.8]], np.float32))
    limits = Decision("global", thresholds=np.full(3, 0.5, np.float32))
    chosen, missing = label_sets(params(thresholds={"fixed": 0.3}), predictions, limits, np.array([2, 4, 7]))
    assert missing == 1
    assert chosen.tolist() == [[False, False, True], [True, False, False], [True, False, False]]
    chosen, missing = label_sets(params(), predictions, limits, np.array([4]))
    assert (missing, chosen.shape) == (1, (1, 3))
