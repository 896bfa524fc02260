"""What a version's record says of its submission's texts."""

from __future__ import annotations

import numpy as np

from labelstack.formats.submission import Form, Texts
from labelstack.stages.version_record import _texts


def test_labels_that_stand_there_by_ids_are_recorded_as_such() -> None:
    def texts(label: dict[int, str]) -> dict[str, str]:
        return _texts(Form(np.array([1]), ("id", "attribute_ids"), Texts(["4457884375734e12"], label, " ")))

    assert texts({0: "0", 1: "1"}) == {"separator": " ", "labels": "ids"}
    assert texts({0: "culture::a", 1: "tag::b"}) == {"separator": " "}
    assert _texts(Form(np.array([1]))) == {}
