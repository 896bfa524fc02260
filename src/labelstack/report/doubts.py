"""Images whose given labels are doubtful, as one HTML page that asks the network for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from markupsafe import Markup

from labelstack.report import page
from labelstack.report.html import thumbnail
from labelstack.support.storage import replacing

Verdict = Literal["remove", "add", "keep"]  # of a label that is given, is not given, is given and not doubted


@dataclass(frozen=True)
class DoubtedLabel:
    """A label beside an image."""

    name: str
    verdict: Verdict
    probability: float


@dataclass(frozen=True)
class DoubtfulImage:
    """An image (JPEG bytes), what people call it, and its labels, the doubtful ones first."""

    called: str
    jpeg: bytes
    labels: Sequence[DoubtedLabel]


@dataclass(frozen=True)
class DoubtsContent:
    """The whole page.

    Parameters
    ----------
    images : the most doubtful first
    member : whose probabilities doubt the labels
    rows : how many images were looked at, and which, in words
    add, remove : how many labels are likely missing and likely wrong, in all
    table : path of the file with all of them
    """

    images: Sequence[DoubtfulImage]
    member: str
    rows: str
    add: int
    remove: int
    table: str


def write_doubts(path: Path, content: DoubtsContent) -> None:
    """Write the page, whole or not at all; equal content gives equal bytes."""
    text = page.environment({}).get_template("doubts.html.j2").render(
        content=content,
        pictures=[(image, *thumbnail(image.jpeg)) for image in content.images],
        style=Markup(page.asset("report.css")),  # noqa: S704
    )  # fmt: skip
    with replacing(path) as temporary:
        temporary.write_bytes(page.encoded(text))
