"""Stage `views@{model}`: which part of each image a second-round model sees."""

from __future__ import annotations

import numpy as np

from labelstack.formats.manifest import read_manifest
from labelstack.images.shards.shard_files import ok_ids
from labelstack.images.view_table import write_view
from labelstack.params import load_params
from labelstack.stages import paths
from labelstack.stages.common import done, known
from labelstack.stages.second_kinds.kind import view_of
from labelstack.support import storage


def run(name: str) -> None:
    """Write data/views/<name>.parquet, the boxes of rows that were downloaded, and metrics/views/<name>.json."""
    params = load_params()
    section = known(name, params.second_round, "second-round model")
    manifests = {split: read_manifest(paths.manifest(split)) for split in paths.SPLITS}
    found = view_of(section)(params, section, manifests)
    kept, counts = {}, {}
    for split in paths.SPLITS:
        there, boxes = ok_ids(paths.shards(split)), found.get(split, {})
        cut = there[np.isin(there, np.array(list(boxes), np.int64))].tolist()
        kept[split] = {row: boxes[row] for row in cut}
        counts[split] = {"images": len(there), "with_box": len(cut), "whole": len(there) - len(cut)}
    write_view(paths.view(name), kept)
    storage.write_json(paths.METRICS / "views" / f"{name}.json", counts)
    total, whole = (sum(one[key] for one in counts.values()) for key in ("images", "whole"))
    done("views", f"{name}: {total - whole} of {total} images have a box, {whole} are seen whole", paths.view(name))
