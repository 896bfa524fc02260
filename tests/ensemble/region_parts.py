"""A small ensemble that finds regions: untrained segmenters of two folds and an untrained base model."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from labelstack.ensemble.folder import ONLY, EnsembleSettings, NetworkPart, Parts, View
from labelstack.ensemble.region_form import RegionForm
from labelstack.params.models import HeadSection, ModelSection
from labelstack.params.segmenters import SegmenterSection
from labelstack.stacking.deciding.decisions import Decision

LABELS = [(2, "plain"), (5, "dotted"), (9, "long")]
CATEGORIES = [(3, "top"), (7, "skirt"), (8, "scarf")]
ROWS = [3, 7]  # scarves have no attributes
FOLDS = ("0", "1")
SECTION = SegmenterSection.model_validate(
    {
        "backbone": "small_cnn",
        "options": {"filters": [4, 4, 8], "convolutions": 1},
        "decoder": {"filters": [8, 4], "middle": False},
        "phases": [{"epochs": 1, "image_size": [32, 48], "batch_size": 3}],
        "classes": len(CATEGORIES) + 1,
    }
)
STORE, QUALITY = 40, 90


def form(**change: object) -> RegionForm:
    """What the ensemble knows of photos: an attribute set of tops always, of skirts never."""
    content = {
        "segmenters": {"plain": list(FOLDS)},
        "found": {"size": [40, 56], "smallest": 0.002, "most": 12},
        "categories": [{"id": one, "name": name} for one, name in CATEGORIES],
        "rows": ROWS,
        "margin": 0.1,
        "background": "keep",
        "jpeg_quality": QUALITY,
        "attributes": {"3": {"set": "decided", "least": 0.0}},
    }
    return RegionForm.model_validate(content | change)


def photo(seed: int, side: int = 64) -> bytes:
    """A picture of large coloured blocks, JPEG."""
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((side, side + 16), Image.Resampling.NEAREST).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def parts(folder: Path) -> Parts:
    """Parts in files."""
    import keras

    from labelstack.networks.inference import save_model
    from labelstack.networks.model import build_model
    from labelstack.networks.tasks import multi_label
    from labelstack.segmentation.segmenter import Segmenter
    from labelstack.segmentation.unet import build_unet

    segmenters = {}
    for seed, fold in enumerate(FOLDS):
        keras.utils.set_random_seed(seed)
        segmenter = Segmenter(SECTION, seed)
        segmenter.model_, segmenter.size_ = build_unet(SECTION).model, SECTION.phases[-1].image_size
        segmenter.save(folder / "segmenters" / fold)
        segmenters["plain", fold] = folder / "segmenters" / fold
    keras.utils.set_random_seed(3)
    section = ModelSection(backbone="small_cnn", image_size=16, head=HeadSection(units=[8], dropout=0))
    save_model(build_model(section, multi_label(section, len(LABELS))), folder / "one" / "model.keras")
    (folder / "blend.json").write_text(json.dumps({"weights": {"one": 1.0}}))
    decision = Decision("global", thresholds=np.full(len(LABELS), 0.5, np.float32)).to_dict()
    thresholds = {str(label): 0.5 for label, _ in LABELS}
    rule = {"strategy": "global", "thresholds": thresholds, "decision": decision}
    (folder / "thresholds.json").write_text(json.dumps(rule))
    return Parts(
        models={"one": [NetworkPart(ONLY, folder / "one" / "model.keras", View(16))]},
        stackers={},
        blend=folder / "blend.json",
        thresholds=folder / "thresholds.json",
        labels=LABELS,
        settings=EnsembleSettings(batch_size=4, store_size=STORE, jpeg_quality=QUALITY),
        regions=form(),
        segmenters=segmenters,
    )
