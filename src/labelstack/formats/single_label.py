"""Whether every image of train and validation has exactly one label, as ``dataset.task: single_label`` says."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from labelstack.formats.problems import FileProblems

ANNOTATED = ("train", "validation")


def single_label_problems(manifests: Mapping[str, pd.DataFrame], labels: pd.DataFrame) -> list[str]:
    """A sentence for each kind of image without one label, of manifests by split, with the names of the label table."""
    told, label = [], dict(zip(labels["label_id"].tolist(), labels["name"].tolist(), strict=True))
    for split in ANNOTATED:
        here, manifest = FileProblems(split), manifests[split]
        names = manifest["name"] if "name" in manifest else manifest["image_id"]
        for name, given in zip(names.tolist(), manifest["label_id"].tolist(), strict=True):
            if len(given) != 1:
                what = f"{len(given)}: {', '.join(label[each] for each in given[:5])}" if given else "none"
                here.add("", f"image {name}", "", "exactly one label (dataset.task: single_label)", what)
        told += here.sentences()
    return told
