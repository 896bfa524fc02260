"""Stage `ingest`: the competition's files, in whatever format, checked, as manifest and label table."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from labelstack.formats.beside import read_beside, together
from labelstack.formats.corrections import corrected
from labelstack.formats.drawn_validation import with_validation
from labelstack.formats.format import Draw, Format, format_for
from labelstack.formats.manifest import write_manifest
from labelstack.formats.single_label import single_label_problems
from labelstack.formats.submission import write_form
from labelstack.images.fetching.local_files import local_digest
from labelstack.masks.instance_table import write_instances
from labelstack.params import Params, load_params
from labelstack.params.folds import BlocksSection, FoldsSection
from labelstack.stacking.shares import choose_share
from labelstack.stacking.sources import blocks
from labelstack.stages import paths
from labelstack.stages.common import done, reachable
from labelstack.support import storage
from labelstack.support.errors import InputProblems, UserError


def run() -> None:
    """Write data/manifest and metrics/ingest.json, or refuse with every problem of every file."""
    params = load_params()
    reachable(params)
    draw, root = drawing(params.seed, params.folds), Path(params.dataset.root)
    competition = format_for(params.dataset, draw, params.folds)
    least = 0 if params.by_fold else params.folds.k  # validation images
    dataset = competition.read(root, params.dataset.label_ids, least)
    if params.dataset.corrections:
        dataset = corrected(root, params.dataset.corrections, dataset)
    beside = read_beside(root, params.folds, dataset.manifests, dataset.columns)
    if share := params.dataset.validation:
        given = beside["split"] == "train"
        source = together(beside.loc[given, "group"].tolist()) if beside["group"].any() else None
        dataset, chosen = with_validation(dataset, share, draw, source, least)
        beside.loc[np.flatnonzero(given)[chosen], "split"] = "validation"
    if "validation" not in dataset.manifests:
        raise UserError(f"{root}: has no validation split: dataset.validation draws a share of train, for example 0.2")
    if params.dataset.task == "single_label" and (told := single_label_problems(dataset.manifests, dataset.labels)):
        raise InputProblems(str(root), told)
    answers = dataset.answers
    if params.dataset.answers:
        answers = competition.answers(Path(params.dataset.answers), dataset.labels)
    elif answers is None:
        answers = pd.DataFrame({"image_id": np.zeros(0, np.int64), "label_id": []})

    def place(path: Path) -> Path:
        return paths.of_photos(path, params.dataset.into)

    write_manifest(place(paths.ANSWERS), answers.assign(url=pd.Series([[]] * len(answers), dtype=object)))
    local = {split: local_digest(manifest["url"], root) for split, manifest in dataset.manifests.items()}
    storage.write_json(place(paths.LOCAL_FILES), local)
    for split, manifest in dataset.manifests.items():
        write_manifest(place(paths.manifest(split)), manifest)
    with storage.replacing(place(paths.BESIDE)) as temporary:
        with_asked(beside, dataset.manifests["test"]).to_parquet(temporary, index=False)
    write_instances(place(paths.INSTANCES), dataset.instances)
    write_instances(place(paths.TRUE_INSTANCES), true_instances(params, competition))
    frequency = dataset.labels["n_train"] / len(dataset.manifests["train"])
    with storage.replacing(place(paths.LABELS)) as temporary:
        dataset.labels.assign(train_frequency=frequency).to_parquet(temporary, index=False)
    write_form(place(paths.SUBMISSION_FORM), dataset.submission)
    storage.write_json(paths.METRICS / "ingest.json", dataset.counts)
    sizes = ", ".join(f"{len(manifest)} {split}" for split, manifest in dataset.manifests.items())
    done("ingest", f"{sizes} images, {len(dataset.labels)} labels", place(paths.LABELS).parent)


def true_instances(params: Params, competition: Format) -> pa.Table | None:
    """Instances of test photos as ``dataset.answers`` has them; None where a format has none, or nobody knows them."""
    of_format = getattr(competition, "test_instances", None)
    return None if of_format is None or not params.dataset.answers else of_format(Path(params.dataset.answers))


def with_asked(beside: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """What is said of rows, with the label group that each test image asks for where it asks for one alone."""
    if "known" not in test:
        return beside
    asked = pd.DataFrame({"split": "test", "row_id": test["image_id"], "group": "", "fold": -1, "known": test["known"]})
    return pd.concat([beside.assign(known=""), asked], ignore_index=True)


def drawing(seed: int, folds: FoldsSection | None = None) -> Draw:
    """How rows are chosen for splits that a data set does not name: every draw by a seed of its own.

    Where ``folds.group_by`` says blocks, whole runs of the rows that are drawn from are chosen.
    """
    by = None if folds is None else folds.group_by

    def draw(Y: NDArray[np.bool_], share: float, number: int, source: NDArray[np.str_] | None) -> NDArray[np.bool_]:
        if source is None and isinstance(by, BlocksSection):
            return choose_share(Y, share, seed + number, blocks(len(Y), by.blocks))
        return choose_share(Y, share, seed + number, source)

    return draw
