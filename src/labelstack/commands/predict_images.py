"""Command `labelstack predict IMAGE…`: label images, or regions of photos, with a registered ensemble."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelstack.stages.common import ROOT, tracking_here
from labelstack.support.errors import UserError
from labelstack.support.spreadsheet import write_table
from labelstack.support.storage import replacing, writable, writable_folder

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities.model_registry import ModelVersion

    from labelstack.ensemble.ensemble import Ensemble
    from labelstack.tracking.runs import Tracker

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif"})
COLUMNS = ("image", "url")


def run(
    images: Sequence[str],
    model: str | None = None,
    *,
    all_probabilities: bool = False,
    attributes: str = "",
    as_json: bool = False,
    out: Path | None = None,
    draw: Path | None = None,
) -> None:
    """Label images and print a table, JSON lines, or write a file.

    Parameters
    ----------
    images : sequence of str
        Files, folders, http(s) or s3 URLs, and CSV files with a column ``image`` or ``url``.
    model : str, optional
        A registry version as ``registry.resolve`` takes it; default: ``@champion``.
    attributes : str
        Label groups that a value is told of, with commas between, where an image has one of each; default: all.
    out : Path, optional
        A ``.csv`` or ``.jsonl`` file.
    draw : Path, optional
        A folder for a picture of each photo with its regions, of a version that has segmenters.

    Raises
    ------
    UserError
        When no images are given, a CSV or folder has none, there is no such version or attribute, a file of it is not
        the registered one, ``out`` or ``draw`` can't be written, or the version finds no regions that could be drawn.
    SystemExit
        With code 1 when not one image could be labelled.
    """
    import pandas as pd

    from labelstack.registry.versions import resolve
    from labelstack.tracking.runs import connect

    given = listed(images)
    if out is not None:
        if out.suffix not in (".csv", ".jsonl"):
            raise UserError(f"--out {out}: expected a file that ends in .csv or .jsonl")
        writable(out, "--out")
    if draw is not None:
        writable_folder(draw, "--draw")
    tracker = connect(tracking_here(), ROOT, create=False)
    version = resolve(tracker, "@champion" if model is None else model)
    ensemble = load(tracker, version)
    if ensemble.spec.regions is not None:
        from labelstack.commands.predicted_regions import predict_regions

        if attributes:
            raise UserError("--attributes: this version tells all attributes of regions; leave it out")
        failed = predict_regions(
            ensemble,
            given,
            list(map(_identity, given)),
            all_probabilities=all_probabilities,
            as_json=as_json,
            out=out,
            draw=draw,
        )
        _last_line(failed, len(given), version, out or draw, to_error=as_json and out is None)
        return
    if draw is not None:
        raise UserError(
            f"--draw: {version.name} v{version.version} labels whole images, so there are no regions to draw: give a "
            "version that was registered with segmenters"
        )
    asked = [name.strip() for name in attributes.split(",") if name.strip()]
    found = ensemble.predict(given, all_probabilities=all_probabilities, attributes=asked)
    # Pandas' own text type refuses file names that are not UTF-8.
    found.insert(0, "image", pd.Series([_identity(image) for image in given], dtype=object))
    if all_probabilities:
        named = [_by_label(row, ensemble.spec.label_id) for row in found["probabilities"]]
        found["probabilities"] = pd.Series(named, dtype=object)
    if out is not None:
        _write(found, out)
    elif as_json:
        sys.stdout.writelines(_json_lines(found))
        sys.stdout.flush()
    else:
        _print(found, dict(zip(map(str, ensemble.spec.label_id), ensemble.spec.labels, strict=True)))
    failed = int(found["error"].notna().sum())
    _last_line(failed, len(found), version, out, to_error=as_json and out is None)


def _last_line(failed: int, n: int, version: ModelVersion, where: Path | None, *, to_error: bool) -> None:
    """Say how many images got labels; exit with 1 when none did."""
    errors = f", {failed} with an error" if failed else ""
    place = f" → {where}" if where else ""
    print(
        f"predict: {n - failed} of {n} images labelled by {version.name} v{version.version}{errors}{place}",
        file=sys.stderr if to_error else sys.stdout,
        flush=True,
    )
    if failed == n:
        sys.exit(1)


def listed(images: Sequence[str]) -> list[str]:
    """The images that arguments name, in order: a folder's files (sorted), a CSV's rows, anything else as it is."""
    found: list[str] = []
    for text in images:
        path = Path(text)
        if not text or "://" in text or text.startswith("data:"):  # Path("") would be the folder here
            found.append(text)
        elif _is_folder(path):
            files = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and not file.is_dir())
            named = sorted(map(str, files))
            if not named:
                raise UserError(f"{text}: no image files in this folder ({' '.join(sorted(SUFFIXES))})")
            found += named
        elif path.suffix.lower() == ".csv":
            found += _column(path)
        else:
            found.append(text)
    if not found:
        raise UserError("no images: give files, folders, URLs, or a CSV with the column `image`")
    return found


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # base64 is longer than names may be
        return False


def load(tracker: Tracker, version: ModelVersion) -> Ensemble:
    """The ensemble of a version as ``resolve`` gives it, with labelstack as it is here.

    Raises
    ------
    ChangedError
        When a file of the version is not the registered one.
    """
    from labelstack.ensemble.ensemble import Ensemble
    from labelstack.registry.fetched import fetch_checked

    with tempfile.TemporaryDirectory(prefix="labelstack-") as temporary:
        return Ensemble.load(fetch_checked(tracker, version, Path(temporary) / "version").ensemble, checked=True)


def _column(path: Path) -> list[str]:
    from labelstack.commands.csv_column import read_column

    return read_column(path, COLUMNS)


def _identity(image: str) -> str:
    from labelstack.support.credentials import without_credentials

    return without_credentials(image) if len(image) <= 2000 else f"{image[:60]}…"


def _by_label(probabilities: list[float] | None, label_id: Sequence[int]) -> dict[str, float] | None:
    if probabilities is None:
        return None
    return {str(label): probability for label, probability in zip(label_id, probabilities, strict=True)}


def _json_lines(found: pd.DataFrame) -> list[str]:
    return [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in found.to_dict("records")]


def _write(found: pd.DataFrame, out: Path) -> None:
    import pandas as pd

    with replacing(out) as temporary:
        if out.suffix == ".jsonl":
            temporary.write_text("".join(_json_lines(found)), encoding="utf-8", errors="backslashreplace")
            return
        table = found.drop(columns="probabilities", errors="ignore")
        for column, between in (("label_id", " "), ("labels", "; "), ("probability", " ")):
            table[column] = [between.join(map(_text, values)) for values in table[column]]
        if "probabilities" in found:
            wide = pd.DataFrame([row or {} for row in found["probabilities"]]).add_prefix("p_")
            table = pd.concat([table, wide], axis=1)
        write_table(table, temporary, errors="backslashreplace")


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _print(found: pd.DataFrame, names: dict[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("image", overflow="fold")
    table.add_column("labels", overflow="fold")
    for row in found.to_dict("records"):
        cell = Text()
        if row["error"]:
            cell.append(row["error"], "red")
        else:
            likely = sorted(zip(row["probability"], row["labels"], strict=True), reverse=True)
            cell.append(", ".join(f"{name} {probability:.2f}" for probability, name in likely) or "(none)")
        others = row.get("probabilities") or {}
        rest = sorted(((p, names[key]) for key, p in others.items() if int(key) not in row["label_id"]), reverse=True)
        if rest:
            cell.append("\n" + ", ".join(f"{name} {probability:.2f}" for probability, name in rest), "dim")
        table.add_row(Text(row["image"].partition("?")[0] if "://" in row["image"] else row["image"]), cell)
    Console().print(table)
