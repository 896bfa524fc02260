"""A made-up report of realistic size: 44 labels in groups, three base models, two stackers and their blend."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import cv2
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFilter

from labelstack.masks.run_lengths import encode
from labelstack.report.content import (
    GalleryItem,
    GalleryLabel,
    LeaderboardRow,
    MLflowHint,
    ReportContent,
    ThresholdCurve,
    gallery_item,
    pick_gallery,
)
from labelstack.report.region_tables import RegionReport, ShownPhoto, iou_rows, score_rows
from labelstack.segmentation.region_picture import draw_regions, jpeg

GROUPS = {
    "garment": [
        "t-shirt", "shirt", "blouse", "sweater", "hoodie", "jacket", "coat", "dress", "skirt", "trousers",
        "shorts", "jeans",
    ],
    "sleeve": ["sleeveless", "short sleeve", "three-quarter sleeve", "long sleeve"],
    "neckline": ["crew neck", "v-neck", "turtleneck", "collared", "off-the-shoulder"],
    "colour": [
        "black", "white", "grey", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "beige",
    ],
    "pattern": ["plain", "striped", "checked", "dotted", "floral"],
    "material": ["knit", "denim", "leather-like"],
    "season": ["summer", "winter", "between seasons"],
}  # fmt: skip
NAMES = [name for names in GROUPS.values() for name in names]
N = 500


def picture(seed: int, side: int = 224) -> bytes:
    """A drawn garment on a background, as JPEG."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side), tuple(int(v) for v in random.integers(150, 245, 3)))
    draw = ImageDraw.Draw(image)
    colour = tuple(int(v) for v in random.integers(20, 220, 3))
    s, hem = side / 100, int(random.integers(62, 92))
    draw.polygon([(x * s, y * s) for x, y in ((35, 20), (65, 20), (72, hem), (28, hem))], fill=colour)
    for x in (35, 65):
        out = x + (-17 if x < 50 else 17)
        draw.line([(x * s, 24 * s), (out * s, int(random.integers(40, 70)) * s)], fill=colour, width=int(9 * s))
    for y in range(26, hem, 8):
        draw.line([(31 * s, y * s), (69 * s, y * s)], fill=tuple(min(255, v + 40) for v in colour), width=int(2 * s))
    buffer = io.BytesIO()
    image.filter(ImageFilter.GaussianBlur(0.6)).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def f1(samples: float | None, micro: float | None, macro: float | None) -> dict[str, float | None]:
    """Scores by the keys of the three metrics."""
    return {"samples_f1": samples, "micro_f1": micro, "macro_f1": macro}


def rows() -> list[LeaderboardRow]:
    """Six models; the blend is the best."""

    def scores(centre: float) -> dict[str, float | None]:
        return f1(centre, centre + 0.011, centre - 0.064)

    content: list[tuple[str, Any, float, float | None]] = [
        ("small_cnn", "base model", 0.662, 0.0),
        ("small_resnet", "base model", 0.701, 0.1),
        ("mobilenet_v2", "base model", 0.684, 0.05),
        ("cnn", "stacker", 0.741, 0.45),
        ("xgboost", "stacker", 0.735, 0.4),
        ("blend", "blend", 0.752, None),
    ]
    return [
        LeaderboardRow(
            name,
            kind,
            fixed=scores(centre - 0.021),
            cross_fitted=scores(centre),
            in_sample=scores(centre + 0.018),
            test=scores(centre - 0.004),
            test_fixed=scores(centre - 0.024),
            weight=weight,
            run_id=f"{i:x}4c0ffee" * 4,
            run_url=f"http://127.0.0.1:5000/#/experiments/1/runs/{i}" if i % 2 else None,
            seconds=12.4 * 3**i / 2,
        )
        for i, (name, kind, centre, weight) in enumerate(content)
    ]


def label_table(names: list[str] | None = None) -> pd.DataFrame:
    """Per-label scores; the last label was neither true nor predicted."""
    random = np.random.default_rng(7)
    names = NAMES if names is None else names
    group = [next((g for g, members in GROUPS.items() if name in members), "") for name in names]
    precision, recall = random.uniform(0.3, 0.98, (2, len(names)))
    support = random.integers(4, 210, len(names))
    table = pd.DataFrame({"label": names, "group": group, "support": support, "predicted": support + 3})
    table["precision"], table["recall"] = precision, recall
    table["f1"] = 2 * precision * recall / (precision + recall)
    table["threshold"] = random.uniform(0.15, 0.7, len(names))
    table.loc[len(names) - 1, ["support", "predicted", "precision", "recall", "f1"]] = 0
    return table


def history(seed: int, epochs: int = 14) -> pd.DataFrame:
    """A training history that falls and flattens."""
    random, epoch = np.random.default_rng(seed), np.arange(1, epochs + 1)
    loss = 0.12 + 0.35 * np.exp(-epoch / (4 + seed)) + random.normal(0, 0.003, epochs)
    f1 = 0.7 - 0.45 * np.exp(-epoch / (3 + seed)) + random.normal(0, 0.006, epochs)
    rate = 1e-3 * (1 + np.cos(np.pi * epoch / epochs)) / 2
    return pd.DataFrame(
        {
            "epoch": epoch,
            "loss": loss,
            "holdout_loss": loss * 1.15 + 0.01,
            "holdout_samples_f1": f1,
            "learning_rate": rate,
        }
    )


def gallery(n: int = 24) -> list[GalleryItem]:
    """Images with some labels right and some wrong."""
    random = np.random.default_rng(3)
    f1 = random.beta(5, 2, 60)
    items = []
    for position in pick_gallery(f1, n):
        true = np.zeros(len(NAMES), bool)
        true[random.choice(len(NAMES), random.integers(3, 8), replace=False)] = True
        predicted = true & (random.random(len(NAMES)) < f1[position])
        predicted[random.choice(len(NAMES), random.integers(0, 3))] = True
        probability = np.where(predicted, random.uniform(0.4, 1, len(NAMES)), random.uniform(0, 0.3, len(NAMES)))
        items.append(
            gallery_item(position + 1, picture(position), NAMES, true, predicted, probability, float(f1[position]))
        )
    return items


def curve() -> ThresholdCurve:
    """Smooth curves with a flat top."""
    grid = np.linspace(0.02, 0.98, 49)
    samples = 0.75 - 1.1 * (grid - 0.36) ** 2
    return ThresholdCurve(
        grid,
        {"samples": samples.clip(0), "micro": (samples + 0.01).clip(0), "macro": (samples - 0.07).clip(0)},
        chosen=0.36,
    )


def brief(**changes: Any) -> ReportContent:
    """A report that is quick to draw: no curves and no gallery unless ``changes`` bring them."""
    return content(**({"curves": {}, "threshold_curve": None, "gallery": []} | changes))


def content(**changes: Any) -> ReportContent:
    """The whole made-up report, with fields replaced by ``changes``."""
    made = ReportContent(
        title="labelstack: generated garments",
        generated_from={
            "git commit": "3f1c9d2a7b40",
            "params digest": "9b1e0c55d2aa7f31",
            "train images": "1,600",
            "validation images": "500",
            "test images": "500",
            "labels": 44,
        },
        leaderboard=rows(),
        per_label=label_table(),
        curves={"small_cnn": history(0), "small_resnet": history(1, 18), "mobilenet_v2": history(2, 11)},
        threshold_curve=curve(),
        blend_weights={row.name: row.weight for row in rows() if row.weight is not None},
        gallery=gallery(),
        mlflow=MLflowHint("sqlite:///mlflow.db", "labelstack"),
        n_validation=N,
        notes=["Three images could not be downloaded and are left out of every score."],
    )
    return dataclasses.replace(made, **changes)


CLASSES = [
    "shirt, blouse", "top, t-shirt, sweatshirt", "sweater", "cardigan", "jacket", "vest", "pants", "shorts", "skirt",
    "coat", "dress", "jumpsuit", "cape", "glasses", "hat", "headband, head covering, hair accessory", "tie", "glove",
    "watch", "belt", "leg warmer", "tights, stockings", "sock", "shoe", "bag, wallet", "scarf", "umbrella", "hood",
    "collar", "lapel", "epaulette", "sleeve", "pocket", "neckline", "buckle", "zipper", "applique", "bead", "bow",
    "flower", "fringe", "ribbon", "rivet", "ruffle", "sequin", "tassel",
]  # fmt: skip


def regions() -> RegionReport:
    """What segmenters found in made-up photos: the 46 classes of 2019, pictures with two to four regions each."""
    random = np.random.default_rng(19)

    def split() -> dict[str, Any]:
        iou = {name: None if name == "epaulette" else float(random.random()) for name in CLASSES}
        ends = {"pixel_accuracy": [0.78, 0.83], "mean_iou": [0.41, 0.47]}
        return {"pixel_accuracy": 0.81, "mean_iou": 0.44, "intervals": ends, "class_iou": iou | {"background": 0.97}}

    segmentation = {"train": split(), "validation": split(), "test": split()}
    told = ("with_attributes", "without_attributes", "categories_alone", "gain")
    scores = {name: {"score": 0.3, "low": 0.2, "high": 0.4} for name in told}
    masks = {"out_of_fold": scores, "test": scores}

    def drawn(seed: int, said: bool) -> bytes:
        photo = cv2.imdecode(np.frombuffer(picture(seed, 300), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
        pixels = np.zeros((3, 60, 60), bool)
        pixels[0, 12:50, 18:42], pixels[1, 12:18, 22:38], pixels[2, 30:40, 6:16] = True, True, True
        place = random.integers(0, len(CLASSES), 3).tolist()
        names = [CLASSES[one] + (" 0.87" if said else "") for one in place]
        return jpeg(draw_regions(np.ascontiguousarray(photo), encode(pixels), place, names, (320, 320)), 85)

    photos = [
        ShownPhoto(f"{seed:032x}.jpg", 1 - seed / 12, drawn(seed, said=False), drawn(seed, said=True))
        for seed in range(12)
    ]
    return RegionReport(score_rows(segmentation, masks), *iou_rows(segmentation)[::-1], photos, photos[::-1][:6], 1000)


def hostile() -> ReportContent:
    """A report in which every name tries to break out of its place."""
    attack = "</script><script>document.title='owned'</script><img src=x onerror=document.title='owned'>"
    attack += "\"'`{{7*7}}\x00\ud800"
    url = "javascript:document.title='owned'"
    row = LeaderboardRow(attack, "blend", cross_fitted=f1(0.5, 0.5, 0.5), run_id=attack, run_url=url)
    table = label_table(["label", "plain"]).astype({"label": object, "group": object})
    table.loc[0, ["label", "group"]] = attack
    return brief(
        title=attack,
        generated_from={attack: attack},
        leaderboard=[row],
        per_label=table,
        curves={attack: history(0)},
        blend_weights={attack: 1.0},
        gallery=[GalleryItem(1, picture(1), (GalleryLabel(attack, True, True, 0.9),), 1.0)],
        mlflow=MLflowHint(attack, attack),
        notes=[attack],
        reproduce=[attack],
    )
