"""`labelstack predict` with a version that finds regions: a table, JSON lines or a file of them, and pictures."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelstack.support.credentials import without_credentials
from labelstack.support.spreadsheet import write_table
from labelstack.support.storage import replacing

if TYPE_CHECKING:
    from labelstack.ensemble.ensemble import Ensemble
    from labelstack.ensemble.found_in_photos import LabelledPhoto

COLUMNS = ("category_id", "category", "score", "attribute_id", "attributes", "probability", "box", "size", "runs")
_NAME = 60  # characters of a photo's name in that of its picture


def predict_regions(
    ensemble: Ensemble,
    given: Sequence[str],
    called: Sequence[str],
    *,
    all_probabilities: bool = False,
    as_json: bool = False,
    out: Path | None = None,
    draw: Path | None = None,
) -> int:
    """Tell the regions of photos as ``predict_images.run`` tells labels, and draw them; how many photos failed.

    A CSV file has a row for each region; a photo without any, or with an error, has one with empty cells.

    Parameters
    ----------
    called : what answers call each photo
    """
    answers = []
    for number, photo in enumerate(ensemble.photos(given, all_probabilities=all_probabilities), 1):
        if draw is not None and photo.found is not None:
            draw_photo(ensemble, photo, draw / picture_name(number, given[number - 1]))
        answers.append((photo.regions, photo.error))
    rows = [
        {"image": name, "regions": [_by_label(one, ensemble.spec.label_id) for one in regions], "error": error}
        for name, (regions, error) in zip(called, answers, strict=True)
    ]
    if out is not None:
        _write(rows, out)
    elif as_json:
        sys.stdout.writelines(_json_lines(rows))
        sys.stdout.flush()
    else:
        _print(rows)
    return sum(error is not None for _, error in answers)


def draw_photo(ensemble: Ensemble, photo: LabelledPhoto, to: Path) -> None:
    """Write a picture of a photo with its regions, whole or not at all."""
    from labelstack.images.pixels.decode import read_pixels
    from labelstack.segmentation.region_picture import draw_regions, jpeg

    if photo.found is None or ensemble.spec.regions is None:
        raise ValueError("nothing was found out about this photo")
    place = {one.id: number for number, one in enumerate(ensemble.spec.regions.categories)}
    hues = [place[category] for category in photo.found.category.tolist()]
    drawn = draw_regions(read_pixels(photo.jpeg), photo.found.masks, hues, [told(one) for one in photo.regions])
    with replacing(to) as temporary:
        temporary.write_bytes(jpeg(drawn))


def told(region: dict[str, Any]) -> str:
    """A region in one line: its category with the score, its attributes."""
    worn = ", ".join(region["attributes"])
    return f"{region['category']} {region['score']:.2f}" + (f" · {worn}" if worn else "")


def picture_name(number: int, image: str) -> str:
    """A file name for the picture of a photo: its number among those given, and its own name's letters and digits."""
    stem = Path(without_credentials(image).partition("?")[0]).stem if len(image) <= 2000 else ""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", stem)[:_NAME].strip("-")
    return f"{number:04d}-{plain}.jpg" if plain else f"{number:04d}.jpg"


def _by_label(region: dict[str, Any], label_id: Sequence[int]) -> dict[str, Any]:
    if "probabilities" not in region:
        return region
    pairs = zip(label_id, region["probabilities"], strict=True) if region["probabilities"] else ()
    return {**region, "probabilities": {str(label): probability for label, probability in pairs}}


def _json_lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    return (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def _write(rows: Sequence[dict[str, Any]], out: Path) -> None:
    import pandas as pd

    with replacing(out) as temporary:
        if out.suffix == ".jsonl":
            temporary.write_text("".join(_json_lines(rows)), encoding="utf-8", errors="backslashreplace")
            return
        flat = [
            {"image": row["image"], "error": row["error"], **{key: _cell(one.get(key, "")) for key in COLUMNS}}
            | {f"p_{label}": f"{p:.6g}" for label, p in one.get("probabilities", {}).items()}
            for row in rows
            for one in row["regions"] or [{}]
        ]
        columns = ["image", *COLUMNS, "error"]
        table = pd.DataFrame(flat)
        rest = [name for name in table if name not in columns]
        write_table(table[[*columns, *rest]], temporary, errors="backslashreplace")


def _cell(value: Any) -> str:
    if isinstance(value, list):
        between = "; " if value and isinstance(value[0], str) else " "
        return between.join(_cell(one) for one in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _print(rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("image", overflow="fold")
    table.add_column("regions", overflow="fold")
    table.add_column("box", no_wrap=True)
    for row in rows:
        name = Text(row["image"].partition("?")[0] if "://" in row["image"] else row["image"])
        if row["error"]:
            table.add_row(name, Text(row["error"], "red"), "")
            continue
        if not row["regions"]:
            table.add_row(name, "(none)", "")
        for place, one in enumerate(row["regions"]):
            worn = [f"{name} {p:.2f}" for p, name in zip(one["probability"], one["attributes"], strict=True)]
            cell = Text(f"{one['category']} {one['score']:.2f}")
            if worn:
                cell.append(" · " + ", ".join(worn))
            table.add_row("" if place else name, cell, _corners(one))
    Console().print(table)


def _corners(region: dict[str, Any]) -> str:
    """A box as shares of the photo's sides in percent: across, down."""
    (left, top, right, bottom), (height, width) = region["box"], region["size"]
    across, down = (
        f"{100 * low / side:.0f}–{100 * high / side:.0f}"
        for low, high, side in ((left, right, width), (top, bottom, height))
    )
    return f"{across} × {down} %"
