"""Stage `ingest`: the competition's files, in whatever format, checked, as manifest and label table."""

from pathlib import Path

import numpy as np
import pandas as pd

from labelstack.formats.beside import read_beside
from labelstack.formats.format import format_of
from labelstack.formats.manifest import write_manifest
from labelstack.formats.submission import write_form
from labelstack.images.fetching.local_files import local_digest
from labelstack.params import load_params
from labelstack.stages import paths
from labelstack.stages.common import done, reachable
from labelstack.support import storage


def run() -> None:
    """Write data/manifest and metrics/ingest.json, or refuse with every problem of every file."""
    params = load_params()
    reachable(params)
    competition = format_of(params.dataset.format)
    dataset = competition.read(
        Path(params.dataset.root), params.dataset.label_ids, 0 if params.by_fold else params.folds.k
    )
    root, answers = Path(params.dataset.root), pd.DataFrame({"image_id": np.zeros(0, np.int64), "label_id": []})
    if params.dataset.answers:
        answers = competition.answers(Path(params.dataset.answers), dataset.labels)
    write_manifest(paths.ANSWERS, answers.assign(url=pd.Series([[]] * len(answers), dtype=object)))
    local = {split: local_digest(manifest["url"], root) for split, manifest in dataset.manifests.items()}
    storage.write_json(paths.LOCAL_FILES, local)
    for split, manifest in dataset.manifests.items():
        write_manifest(paths.manifest(split), manifest)
    beside = read_beside(root, params.folds, dataset.manifests)
    with storage.replacing(paths.BESIDE) as temporary:
        beside.to_parquet(temporary, index=False)
    frequency = dataset.labels["n_train"] / len(dataset.manifests["train"])
    with storage.replacing(paths.LABELS) as temporary:
        dataset.labels.assign(train_frequency=frequency).to_parquet(temporary, index=False)
    write_form(paths.SUBMISSION_FORM, dataset.submission)
    storage.write_json(paths.METRICS / "ingest.json", dataset.counts)
    sizes = ", ".join(f"{len(manifest)} {split}" for split, manifest in dataset.manifests.items())
    done("ingest", f"{sizes} images, {len(dataset.labels)} labels", paths.manifest("train").parent)
