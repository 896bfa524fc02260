"""Commands `labelstack images …`: how the download went, another try for some images, and a look at one."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labelstack.stages import paths
from labelstack.stages.download import known_split, validators
from labelstack.support import storage
from labelstack.support.errors import InputProblems, UserError

if TYPE_CHECKING:
    import pandas as pd

SHOWN = paths.WORK / "shown"


def status(split: str | None) -> None:
    """Print how many images of each split ended in each status, and the hosts with most failures."""
    from rich.console import Console
    from rich.table import Table

    from labelstack.images.shards.shard_files import shard_paths, status_frame

    splits = [known_split(split)] if split else list(paths.SPLITS)
    counts = {
        name: Counter(status_frame(paths.shards(name))["status"].tolist()) if shard_paths(paths.shards(name)) else None
        for name in splits
    }
    table = Table(title="Images")
    table.add_column("status")
    for name in splits:
        table.add_column(name, justify="right")
    found = {each for count in counts.values() for each in count or ()}
    for each in sorted(found, key=lambda name: (name != "ok", name)):
        table.add_row(each, *(_share(count, each) for count in counts.values()))
    totals = ("not downloaded" if count is None else f"{count.total():,}" for count in counts.values())
    table.add_row("all", *totals, style="bold")
    console = Console()
    console.print(table)
    for name in splits:
        metrics = paths.METRICS / "download" / f"{name}.json"
        hosts = storage.read_json(metrics).get("failures_by_host", {}) if counts[name] and metrics.exists() else {}
        for host, count in list(hosts.items())[:5]:
            console.print(f"{name}: {count:,} failures at {host}", markup=False, highlight=False)


def _share(count: Counter[str] | None, each: str) -> str:
    return f"{count[each]:,} ({count[each] / count.total():.1%})" if count and count[each] else ""


def retry(split: str | None, patterns: str, refresh: bool) -> None:
    """Fetch images with some statuses again, or ask for newer versions of stored ones; rewrite only their shards."""
    from labelstack.formats.manifest import read_manifest
    from labelstack.images.fetching.status import is_pattern
    from labelstack.images.shards.fill import download_split
    from labelstack.params import load_params

    again = [each.strip() for each in patterns.split(",") if each.strip()]
    expected = (
        "timeout, connection, forbidden, missing, too_large, not_an_image, damaged, unsupported, no_url, http_404, "
        "http_5xx …"
    )
    if wrong := [f"{each}: no status of images ({expected})" for each in again if not is_pattern(each)]:
        raise InputProblems("--status", wrong)
    if not again and not refresh:
        raise UserError("nothing to do: name statuses with --status (timeout,http_5xx), or ask for --refresh")
    params, changed = load_params(), list[str]()
    into = params.dataset.into
    there = [name for name in paths.SPLITS if paths.of_photos(paths.shards(name), into).exists()]
    splits = [known_split(split)] if split else there
    if not splits:
        raise UserError("nothing is downloaded yet; run `dvc repro` or `labelstack stage download train` first")
    for name in splits:
        out = paths.of_photos(paths.shards(name), into)
        counts = download_split(
            read_manifest(paths.of_photos(paths.manifest(name), into)),
            out,
            params.images,
            Path(params.dataset.root),
            again=again,
            refresh=refresh,
            validators=validators(name),
        )
        asked, written = counts.pop("asked"), counts.pop("written")
        outcomes = ", ".join(f"{count} {each}" for each, count in asked.items()) or "no image has such a status"
        print(
            f"{name}: asked for {sum(asked.values())} images: {outcomes}; {len(written)} shards rewritten", flush=True
        )
        if written:
            storage.write_json(paths.METRICS / "download" / f"{name}.json", counts)
            changed.append(name)
    if changed:
        stages = " ".join(f"download@{name}" for name in changed)
        print(f"Next: `dvc commit -f {stages}` takes the new shards over, then `dvc repro` what depends on them.")


def show(image: str, split: str | None, to: Path | None) -> None:
    """Write one stored image to a file, tell what is known of it, and open it where there is a display.

    Parameters
    ----------
    image : id, or name in a data set whose images are called by texts
    """
    import typer

    from labelstack.images.shards.shard_files import read_shard

    if to is not None:
        storage.writable(to, "--to")
    splits = [known_split(split)] if split else list(paths.SPLITS)
    for image_id in _ids(image):
        places = [(name, path, row) for name in splits for path, row in _places(name, image_id)]
        if places:
            break
    else:
        raise UserError(f"{image}: no such image in {', '.join(splits)} (`labelstack images status` lists the splits)")
    if len(places) > 1:
        raise UserError(f"{image}: in {', '.join(name for name, _, _ in places)}; choose one with --split")
    name, path, row = places[0]
    shard = read_shard(path)
    called, urls = _manifest_row(name, image_id)
    facts: dict[str, Any] = {"image": f"{called or image} ({name})", "status": shard.status[row]}
    data = shard.bytes[row]
    if data is not None:
        file = to or SHOWN / f"{name}-{_file_name(called) or image_id}.jpg"
        with storage.replacing(file) as temporary:
            temporary.write_bytes(data)
        facts |= {"size": f"{shard.width[row]} × {shard.height[row]} pixels, {len(data):,} bytes", "file": file}
    facts |= {"shard": f"{path}, row {row}", "url": urls}
    for key, value in facts.items():
        print(f"{key:>7}: {value}")
    if data is not None and to is None and sys.stdout.isatty() and _has_display():
        typer.launch(str(file))


def _ids(image: str) -> list[int]:
    """The ids that may be meant: the number itself, then that of the text."""
    from labelstack.formats.records import INT64_MAX, parse_id
    from labelstack.formats.text_id import text_id

    number = parse_id(image, INT64_MAX)
    return [text_id(image)] if number is None else [number, text_id(image)]


def _places(split: str, image_id: int) -> list[tuple[Path, int]]:
    from labelstack.images.shards.shard_files import shard_paths, status_frame

    found = []
    for path in shard_paths(paths.shards(split)):
        found += [(path, int(row)) for row in np.flatnonzero(status_frame(path)["image_id"] == image_id)]
    return found


def _file_name(called: str | None) -> str:
    """The name without its ending, with nothing in it that a file system or a shell takes for more."""
    stem, dot, ending = (called or "").rpartition(".")
    return re.sub(r"[^\w-]+", "_", stem if dot and "/" not in ending else ending)[-80:].strip("_")


def _manifest_row(split: str, image_id: int) -> tuple[str | None, str]:
    """What people call an image, if not by its id; its URLs without user, password and signature."""
    from labelstack.formats.manifest import read_manifest
    from labelstack.support.credentials import without_credentials

    if not paths.manifest(split).exists():
        return None, "(no manifest)"
    manifest: pd.DataFrame = read_manifest(paths.manifest(split))
    rows = manifest[manifest["image_id"] == image_id]
    called = without_credentials(rows["name"].iloc[0]) if "name" in rows and len(rows) else None
    return called, ", ".join(without_credentials(url) for urls in rows["url"] for url in urls) or "(none)"


def _has_display() -> bool:
    return sys.platform in {"darwin", "win32"} or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
