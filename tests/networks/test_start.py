"""A network that begins with another one's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labelstack.networks.inference import save_model, weights_digest
from labelstack.networks.model import build_model
from labelstack.networks.start import begin_with
from labelstack.networks.tasks import multi_label
from labelstack.params.models import ModelSection
from labelstack.support.errors import UserError

SECTION = ModelSection.model_validate(
    {"backbone": "small_cnn", "image_size": 24, "options": {"filters": [4, 8]}, "head": {"units": [6]}}
)


def network(section: ModelSection = SECTION, n_labels: int = 3):  # type: ignore[no-untyped-def]
    return build_model(section, multi_label(section, n_labels, np.full(n_labels, 0.2)))


def test_all_weights_are_taken_and_another_size_of_image_fits(tmp_path: Path) -> None:
    first = network()
    save_model(first, tmp_path / "first.keras")
    for size in (24, 40):
        second = network(SECTION.model_copy(update={"image_size": size}))
        assert weights_digest(second) != weights_digest(first)
        begin_with(second, tmp_path / "first.keras")
        assert weights_digest(second) == weights_digest(first)


@pytest.mark.parametrize(
    ("change", "n_labels", "said"),
    [
        ({}, 5, r"the first that differs is \(6, 3\) and is to be \(6, 5\)"),
        ({"head": SECTION.head.model_copy(update={"units": [6, 6]})}, 3, "do not fit"),
        ({"head": SECTION.head.model_copy(update={"pooling": "flatten"})}, 3, "do not fit"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, change: dict, n_labels: int, said: str) -> None:  # type: ignore[type-arg]
    save_model(network(), tmp_path / "first.keras")
    with pytest.raises(UserError, match=said):
        begin_with(network(SECTION.model_copy(update=change), n_labels), tmp_path / "first.keras")
    with pytest.raises(UserError, match="not found"):
        begin_with(network(), tmp_path / "absent.keras")
