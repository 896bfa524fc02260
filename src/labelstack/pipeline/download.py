"""Stage `download@{split}`: images behind URLs, as shards."""

from pathlib import Path

from labelstack import storage
from labelstack.errors import UserError
from labelstack.formats.manifest import read_manifest
from labelstack.images.shards import download_split
from labelstack.params import load_params
from labelstack.pipeline import paths
from labelstack.pipeline.common import done


def run(split: str) -> None:
    """Write data/images/<split> and metrics/download/<split>.json; every image ends in exactly one status."""
    if split not in paths.SPLITS:
        raise UserError(f"{split}: no such split (there are: {', '.join(paths.SPLITS)})")
    params = load_params()
    manifest = read_manifest(paths.manifest(split))
    counts = download_split(manifest, paths.shards(split), params.images, Path(params.dataset.root))
    storage.write_json(paths.METRICS / "download" / f"{split}.json", counts)
    if not counts["ok"]:
        raise UserError(
            f"{paths.shards(split)}: none of {counts['images']} images could be downloaded: {counts['status']}. "
            "Check dataset.root and images.allow_schemes, images.allow_hosts in params.yaml."
        )
    done("download", f"{counts['ok']} of {counts['images']} {split} images", paths.shards(split))
