"""Stage `download@{split}`: images behind URLs, as shards."""

from pathlib import Path

from labelstack.compute.engine import Engine
from labelstack.formats.manifest import read_manifest
from labelstack.images.shards.fill import download_split
from labelstack.params import load_params
from labelstack.stages import paths
from labelstack.stages.common import done, reachable
from labelstack.support import storage
from labelstack.support.errors import UserError


def known_split(split: str) -> str:
    """The split itself; raise ``UserError`` when there is none of this name."""
    if split not in paths.SPLITS:
        raise UserError(f"{split}: no such split (there are: {', '.join(paths.SPLITS)})")
    return split


def validators(split: str) -> Path:
    """The folder for the ETags of a split's images."""
    return paths.WORK / "etags" / split


def run(split: str) -> None:
    """Write the split's shards and metrics/download/<split>.json; every image ends in exactly one status."""
    params = load_params()
    reachable(params)
    manifest = read_manifest(paths.of_photos(paths.manifest(known_split(split)), params.dataset.into))
    shards = paths.of_photos(paths.shards(split), params.dataset.into)
    with Engine(params.engine) as engine:
        counts = download_split(
            manifest,
            shards,
            params.images,
            Path(params.dataset.root),
            validators=validators(split),
            run=None if engine.local else engine.map,
        )
    storage.write_json(paths.METRICS / "download" / f"{split}.json", counts)
    if not len(manifest):  # a validation split that nothing needs
        done("download", f"no {split} images in this data set", shards)
        return
    if not counts["ok"]:
        raise UserError(
            f"{shards}: none of {counts['images']} images could be downloaded: {counts['status']}. "
            "Check dataset.root and images.allow_schemes, images.allow_hosts in params.yaml."
        )
    failed = 1 - counts["ok"] / counts["images"]
    if failed > params.images.max_failures:
        raise UserError(
            f"{shards}: {failed:.1%} of {counts['images']} images failed, more than images.max_failures = "
            f"{params.images.max_failures:g} allows: {counts['status']}. The shards are kept: mend the cause, or raise "
            "images.max_failures in params.yaml, and run the download again."
        )
    done("download", f"{counts['ok']} of {counts['images']} {split} images", shards)
