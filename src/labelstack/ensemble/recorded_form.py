"""What the submission looks like that a registered ensemble made: header, rows and texts, out of its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from labelstack.ensemble import record
from labelstack.formats.submission import Form, Texts


def recorded_form(ensemble: Path, label_id: Sequence[int], names: Sequence[str]) -> Form:
    """The form of a recorded submission.

    Parameters
    ----------
    ensemble : an ensemble's folder with a record
    label_id, names : of each label

    Raises
    ------
    UserError
        When a file of the record is absent or something else.
    """
    written = record.read_submission(ensemble)
    first, second = written["header"]
    texts = None
    if "separator" in written:
        called = label_texts(written, label_id, names)
        texts = Texts(record.read_test_name(ensemble), called, written["separator"])
    return Form(record.read_test_id(ensemble), (first, second), texts)


def label_texts(written: Mapping[str, object], label_id: Sequence[int], names: Sequence[str]) -> dict[int, str]:
    """What stands in a submission for each label: its name or, where the record says so, its id."""
    ids = written.get("labels") == record.LABEL_IDS
    return {int(i): str(i) if ids else str(name) for i, name in zip(label_id, names, strict=True)}
