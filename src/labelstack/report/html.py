"""The report as one HTML file that asks the network for nothing and treats every name as hostile."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image, UnidentifiedImageError

from labelstack.report import figures, page
from labelstack.report.attribute_tables import Attribute
from labelstack.report.content import GalleryItem, LeaderboardRow, ReportContent, best_score, known, ranked
from labelstack.report.region_tables import ShownPhoto
from labelstack.report.value_confusion import confusion
from labelstack.scoring.metric import Metric, family_name
from labelstack.support.progress import bar
from labelstack.support.storage import replacing

GALLERY_SIDE = 320  # pixels
_CONFUSION = 5.5  # inches
_HIDDEN_USER = re.compile(r"//[^/@\s]*@")
_SCORINGS = {
    "cross_fitted": "Cross-fitted",
    "fixed": "At {fixed:g}",
    "in_sample": "In-sample",
    "test": "Test, tuned",
    "test_fixed": "Test, at {fixed:g}",
}


@dataclass(frozen=True)
class _Picture:
    """One figure in the four variants that the page chooses from: light and dark, wide and narrow."""

    wide: str
    narrow: str
    wide_dark: str
    narrow_dark: str


@dataclass(frozen=True)
class _Thumbnail:
    """A gallery item with its picture as a data URL; without one when the bytes are no image."""

    item: GalleryItem
    source: str | None
    width: int
    height: int


def write_report(path: str | Path, content: ReportContent) -> None:
    """Write the report to ``path``, whole or not at all; equal content gives equal bytes."""
    rendered = render(content)
    with replacing(path) as temporary:
        temporary.write_bytes(rendered)


def render(content: ReportContent) -> bytes:
    """The page as UTF-8."""
    metric = content.metric
    rows = ranked(content.leaderboard, metric)
    style, script = page.asset("report.css"), page.asset("report.js")
    text = page.environment(_FILTERS).get_template("report.html.j2").render(
        content=content,
        rows=rows,
        headline=next((row for row in rows if row.kind == "blend"), rows[0]),
        best_member=next((row for row in rows if row.kind != "blend"), None),
        columns=_columns(rows, content),
        best=_best(rows, metric),
        metric=metric,
        decides=metric.decides,
        family_name=family_name(metric),
        label_score=metric.fits.name,
        known=known,
        groups=any(str(group) for group in content.per_label["group"]),
        labels=content.per_label.sort_values("f1", ascending=False, kind="stable").to_dict("records"),
        weights=sorted(content.blend_weights.items(), key=lambda item: -item[1]),
        pictures=_pictures(content, rows),
        holdout_scores=figures.holdout_scores(content.curves.values()),
        attributes=[_attribute(one) for one in content.attributes],
        crops=[(one, [(what, *thumbnail(jpeg)) for what, jpeg in one.pictures]) for one in content.crops],
        regions=content.regions,
        region_photos=_pairs(content.regions.photos if content.regions else ()),
        worst_photos=_pairs(content.regions.worst if content.regions else ()),
        thumbnails=[_thumbnail(item) for item in content.gallery],
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        script_hash=page.script_hash(script),
    )  # fmt: skip
    return page.encoded(text)


def _columns(rows: Sequence[LeaderboardRow], content: ReportContent) -> list[tuple[str, str]]:
    """(scoring, heading) of every score that at least one row has."""
    return [
        (scoring, heading.format(fixed=content.fixed_threshold or 0))
        for scoring, heading in _SCORINGS.items()
        if any(row.score(scoring, metric.key) is not None for row in rows for metric in content.metric.family)
    ]


def _best(rows: Sequence[LeaderboardRow], metric: Metric) -> dict[tuple[str, str], float]:
    best: dict[tuple[str, str], float] = {}
    for scoring in _SCORINGS:
        for each in metric.family:
            if (score := best_score(rows, scoring, each.key)) is not None:
                best[scoring, each.key] = score
    return best


def _pictures(content: ReportContent, rows: Sequence[LeaderboardRow]) -> dict[str, _Picture]:
    draw: dict[str, Callable[..., Figure]] = {
        "leaderboard": lambda **look: figures.leaderboard(rows, content.metric, **look)
    }
    if content.curves:
        draw["training"] = lambda **look: figures.training_curves(content.curves, **look)
    if content.threshold_curve is not None:
        curve = content.threshold_curve
        draw["thresholds"] = lambda **look: figures.threshold_curves(curve, **look)

    def encoded(function: Callable[..., Figure], width: float, theme: figures.Theme) -> str:
        return _data_url("image/svg+xml", figures.figure_svg(function(width=width, theme=theme)))

    return {
        key: _Picture(
            wide=encoded(function, figures.WIDE, figures.LIGHT),
            narrow=encoded(function, figures.NARROW, figures.LIGHT),
            wide_dark=encoded(function, figures.WIDE, figures.DARK),
            narrow_dark=encoded(function, figures.NARROW, figures.DARK),
        )
        for key, function in bar(draw.items(), desc="report: figures", unit="figure")
    }


def _attribute(one: Attribute) -> dict[str, Any]:
    """A label group with its pictures as data URLs."""
    picture = _data_url("image/svg+xml", figures.figure_svg(confusion(one, width=_CONFUSION)))
    mistakes = [(mistake, *thumbnail(mistake.jpeg)) for mistake in one.mistakes]
    return {"attribute": one, "picture": picture, "mistakes": mistakes}


def _pairs(photos: Sequence[ShownPhoto]) -> list[tuple[ShownPhoto, list[tuple[str | None, int, int]]]]:
    return [(one, [thumbnail(one.true), thumbnail(one.found)]) for one in photos]


def _thumbnail(item: GalleryItem) -> _Thumbnail:
    return _Thumbnail(item, *thumbnail(item.jpeg))


def thumbnail(jpeg: bytes) -> tuple[str | None, int, int]:
    """A picture as a data URL (None when the bytes are no image), its width and height.

    Small JPEGs stay as they are; others become at most ``GALLERY_SIDE`` pixels on the long side.
    """
    try:
        with Image.open(io.BytesIO(jpeg)) as image:
            size, data = image.size, jpeg
            if max(size) > GALLERY_SIDE or image.format != "JPEG":
                small = image.convert("RGB")
                small.thumbnail((GALLERY_SIDE, GALLERY_SIDE), Image.Resampling.LANCZOS)
                buffer = io.BytesIO()
                small.save(buffer, "JPEG", quality=85, optimize=True)
                size, data = small.size, buffer.getvalue()
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None, 1, 1
    return _data_url("image/jpeg", data), *size


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _score(value: Any) -> str:
    return "–" if page.absent(value) else f"{value:.3f}"


def _number(value: Any) -> str:
    return "–" if page.absent(value) else f"{value:,.0f}"


def _share(value: Any) -> str:
    """A CSS width for a value between 0 and 1."""
    return "0%" if page.absent(value) else f"{min(max(float(value), 0), 1):.2%}"


def _duration(seconds: Any) -> str:
    if page.absent(seconds):
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} m" if hours else f"{minutes} m {rest:02d} s" if minutes else f"{rest} s"


_FILTERS: dict[str, Callable[..., Any]] = {
    "score": _score,
    "number": _number,
    "share": _share,
    "duration": _duration,
    "hide_user": lambda text: _HIDDEN_USER.sub("//", str(text)),
}
