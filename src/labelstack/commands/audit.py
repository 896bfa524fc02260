"""`labelstack audit`: labels of the data set that are likely wrong or missing, as a table and a page.

It has nothing to do with audit rows (``dataset.audit``), which check choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from labelstack.formats.corrections import ADD, COLUMNS, REMOVE, called, label_texts
from labelstack.formats.manifest import read_manifest
from labelstack.images.shards.shard_files import images_by_id
from labelstack.params import load_params
from labelstack.params.blend import BLEND
from labelstack.predictions import read_predictions
from labelstack.report.doubts import DoubtedLabel, DoubtfulImage, DoubtsContent, Verdict, write_doubts
from labelstack.scoring.label_doubts import Doubts, label_doubts
from labelstack.stages import paths
from labelstack.stages.fold_files import stacking_rows
from labelstack.stages.members import everyone
from labelstack.stages.rows import Rows, label_table
from labelstack.support import storage
from labelstack.support.credentials import without_credentials
from labelstack.support.errors import UserError
from labelstack.support.spreadsheet import write_table

TABLE, PAGE = "doubts.csv", "doubts.html"
SHOWN = 24  # images on the page


def run(member: str = BLEND, to: Path = paths.REPORT) -> None:
    """Write doubts.csv, which `ingest` reads back as ``dataset.corrections``, and doubts.html.

    Parameters
    ----------
    member : whose out-of-fold probabilities are gone by
    to : folder to write to

    Raises
    ------
    UserError
        When regions are the rows, there is no such member, or it has not predicted.
    """
    params = load_params()
    if params.region_rows:
        raise UserError(
            "audit: with region_rows the rows are regions, whose attributes stand in the data set's file of masks, and "
            "dataset.corrections changes labels of whole photos. Mend that file itself, or look at labels of photos "
            "with a params.yaml without region_rows (dataset.into: data)"
        )
    known = {one.name: one for one in everyone(params)}
    if member not in known:
        raise UserError(f"{member}: no such member (there are: {', '.join(known)})")
    for name in (TABLE, PAGE):
        storage.writable(to / name, "--to")
    if not known[member].oof.exists():
        raise UserError(f"{known[member].oof}: not found. Run `dvc repro` first.")
    rows, labels = stacking_rows(params), label_table()
    P = read_predictions(known[member].oof).rows_of(rows.row_id)
    found = label_doubts(P, rows.Y)
    names = image_texts(rows)
    with storage.replacing(to / TABLE) as temporary:
        write_table(table(found, rows, names, label_texts(labels)), temporary)
    missing, wrong = int((~found.given).sum()), int(found.given.sum())
    where = f"{len(rows):,} {rows.split} images"
    images = doubtful_images(found, rows, P, names, labels["name"].tolist())
    write_doubts(to / PAGE, DoubtsContent(images, member, where, missing, wrong, str(to / TABLE)))
    print(f"audit: {missing:,} labels likely missing, {wrong:,} likely wrong, of {where}, by {member} → {to / TABLE}")
    print(f"The most doubtful images → {to / PAGE}")
    if not params.by_fold:
        print("Images of train are looked at where base models have a network for each fold (base_models: [0, 1, …]).")
    print(
        f"Delete the lines of {TABLE} that are no errors, put the file below dataset.root, and name it in "
        "dataset.corrections."
    )


def image_texts(rows: Rows) -> list[str]:
    """What `ingest` knows each row's image by: its name, its id where that holds credentials."""
    manifest = read_manifest(paths.manifest(rows.split))
    names = dict(zip(manifest["image_id"].tolist(), called(manifest), strict=True))
    ids = rows.image_id.tolist()
    return [names[i] if without_credentials(names[i]) == names[i] else str(i) for i in ids]


def table(found: Doubts, rows: Rows, images: Sequence[str], labels: Sequence[str]) -> pd.DataFrame:
    """A line for each doubtful label, the most doubtful first: the columns of corrections, split and probability.

    Parameters
    ----------
    images, labels : what the file calls each row's image and each label
    """
    columns = (
        np.array(images, object)[found.row],
        np.array(labels, object)[found.label],
        np.where(found.given, REMOVE, ADD).astype(object),
    )
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True))).assign(
        split=rows.split, probability=found.probability.round(4)
    )


def doubtful_images(
    found: Doubts, rows: Rows, P: np.ndarray, images: Sequence[str], labels: Sequence[str]
) -> list[DoubtfulImage]:
    """The images with the most doubtful labels; each shows all of its doubtful and given ones."""
    chosen = list(dict.fromkeys(found.row.tolist()))[:SHOWN]
    jpegs = images_by_id(paths.shards(rows.split), rows.image_id[chosen])
    shown = []
    for row in chosen:
        doubted = found.label[found.row == row].tolist()
        kept = [label for label in np.flatnonzero(rows.Y[row]).tolist() if label not in doubted]
        told: list[tuple[int, Verdict]] = [(label, REMOVE if rows.Y[row, label] else ADD) for label in doubted]
        told += [(label, "keep") for label in kept]
        beside = [DoubtedLabel(labels[label], verdict, float(P[row, label])) for label, verdict in told]
        shown.append(DoubtfulImage(images[row], jpegs[int(rows.image_id[row])], beside))
    return shown
