"""What the full iMaterialist 2018 recipe costs in disk and time: every sum, its factors and its assumptions.

    python benchmarks/full_run_cost.py [--photos FOLDER] [--tflops 20] [--cores 16]

Measured here: multiply-adds, activations and parameters of every network (by walking its layers), images per second and
core of decoding and augmentation, and with ``--photos`` the mean size of stored images. Assumed: the rest, each of them
an argument.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import cv2
import numpy as np

from labelstack.images.pixels.augment import build_augmenter
from labelstack.images.pixels.decode import to_stored_jpeg
from labelstack.images.workers import Portion, make_images
from labelstack.params import Params, load_params
from labelstack.params.models import ModelSection
from labelstack.params.stackers import CNNStackerSection, XGBoostStackerSection

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "imaterialist2018.yaml"
TRAIN, VALIDATION, TEST = 1_014_544, 10_586, 42_590
LABELS = 228
# Mean of 1,247 real 400 × 533 photographs of garments through to_stored_jpeg at short side 331, quality 90 (they had
# 28.0 kB before: their own quality was lower).
STORED_BYTES = 35_152
GB, HOUR = 1e9, 3600.0
TREE_NODE_BYTES = 60  # of a saved booster, per node of a full tree: indices, split, weight, cover


@dataclass(frozen=True)
class Network:
    """Cost of one forward pass of one image, and the number of parameters."""

    multiply_adds: int
    activation_values: int  # read and written by all layers
    parameters: int


def leaves(model: Any) -> Iterator[Any]:
    """Layers of a model and of the models in it."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from leaves(layer)
        else:
            yield layer


def multiply_adds(layer: Any) -> int:
    """Multiply-adds of a layer for one image: kernel size per output value; biases, activations left out."""
    out = layer.output.shape[1:]
    kind = type(layer).__name__
    if kind == "Conv2D":
        return prod(out) * prod(layer.kernel.shape[:3])
    if kind == "DepthwiseConv2D":
        return prod(out) * prod(layer.kernel_size)
    if kind == "SeparableConv2D":
        middle = layer.pointwise_kernel.shape[2]
        return prod(out[:2]) * middle * prod(layer.kernel_size) + prod(out) * middle
    if kind == "Dense":
        return prod(out) * layer.kernel.shape[0]
    return 0


def values(tensors: Any) -> int:
    """Elements of one tensor or a list of them, for one image."""
    return sum(prod(tensor.shape[1:]) for tensor in (tensors if isinstance(tensors, list) else [tensors]))


def walk(model: Any) -> Network:
    """Sums over all layers of a Keras model."""
    computing = [layer for layer in leaves(model) if type(layer).__name__ != "InputLayer"]
    moved = sum(values(layer.input) + values(layer.output) for layer in computing)
    return Network(sum(map(multiply_adds, computing)), moved, model.count_params())


def networks(params: Params) -> dict[str, Network]:
    """Every base model of the recipe; those that differ in loss or seed only are built once."""
    import keras

    from labelstack.networks.model import build_model
    from labelstack.networks.tasks import multi_label

    built: dict[str, Network] = {}
    result = {}
    for name, model in params.models.items():
        key = repr((model.backbone, model.image_size, model.head, model.options))
        if key not in built:
            print(f"  counting {model.backbone} at {model.image_size} px …", flush=True)
            blank = model.model_copy(update={"weights": "none"})
            built[key] = walk(build_model(blank, multi_label(blank, LABELS)))
            keras.backend.clear_session()
        result[name] = built[key]
    return result


def stored_bytes(folder: Path, params: Params) -> float:
    """Mean size of a folder's photos as the download stage would store them."""
    sizes = [
        len(to_stored_jpeg(path.read_bytes(), params.images.store_size, params.images.jpeg_quality)[0])
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"}
    ]
    print(f"  {len(sizes)} photos of {folder.name}: mean {statistics.mean(sizes):,.0f} bytes as stored", flush=True)
    return statistics.mean(sizes)


def made_up_jpegs(n: int, side: int, quality: int) -> list[bytes]:
    """Smooth blotches with some grain, 3:4, about as many bytes as photos have."""
    random = np.random.default_rng(0)
    jpegs = []
    for _ in range(n):
        coarse = random.integers(0, 256, (20, 15, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (side, side * 4 // 3), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        image = np.clip(image + random.normal(0, 5, image.shape), 0, 255).astype(np.uint8)
        jpegs.append(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
    return jpegs


def images_per_core_second(params: Params, size: int, *, augmented: bool, seconds: float = 4) -> float:
    """Rate of the input pipeline in CPU seconds of one core: other work on this machine does not count."""
    jpegs = made_up_jpegs(32, params.images.store_size, params.images.jpeg_quality)
    augmenter = build_augmenter(params.augment) if augmented else None
    make_images(Portion(jpegs, np.arange(len(jpegs)), 0), size, augmenter)
    done, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        done += len(make_images(Portion(jpegs, np.arange(len(jpegs)), done), size, augmenter))
    return done / (time.process_time() - start)


def print_disk(params: Params, nets: dict[str, Network], mean_bytes: float) -> None:
    """Disk, line by line; what stands in the workspace stands in DVC's cache again unless the two are linked."""
    images = TRAIN + VALIDATION + TEST
    weights = sum(net.parameters for net in nets.values()) * 4
    predictions = (len(nets) + len(params.stackers)) * (VALIDATION + TEST) * LABELS * 4
    stackers = sum(stacker_bytes(section, len(nets), params.folds.k) for section in params.stackers.values())
    largest = max(net.parameters for net in nets.values())
    peak = largest * (2 * 12 + 4)
    n_files, n_images = len(nets) + len(params.stackers), VALIDATION + TEST
    stages = [
        ("images", f"({TRAIN:,} + {VALIDATION:,} + {TEST:,}) × {mean_bytes:,.0f} B", images * mean_bytes),
        ("base models", f"{weights // 4:,} parameters × 4 B", weights),
        ("predictions", f"{n_files} × {n_images:,} images × {LABELS} labels × 4 B", predictions),
        ("stackers", f"{params.folds.k} fold models each", stackers),
    ]
    others = [
        ("MLflow", "2 × (base models + stackers): in runs, in the registered ensemble", 2 * (weights + stackers)),
        ("work in progress", f"2 checkpoints × {largest:,} × 12 B + best × 4 B; removed", peak),
    ]
    outputs, beside = sum(size for *_, size in stages), sum(size for *_, size in others)
    print("\nDisk")
    for what, how, size in [
        *stages,
        *others,
        ("sum", "DVC's cache linked to the workspace", outputs + beside),
        ("sum", "DVC's cache copied: + images, base models, predictions, stackers", 2 * outputs + beside),
    ]:
        print(f"  {what:<17}{how:<68}{size / GB:>8.1f} GB")


def stacker_bytes(section: CNNStackerSection | XGBoostStackerSection, n_models: int, folds: int) -> float:
    """Saved fold models of a stacker; an upper bound for trees, which need not be full."""
    if isinstance(section, XGBoostStackerSection):
        return folds * LABELS * section.n_estimators * (2 ** (section.max_depth + 1) - 1) * TREE_NODE_BYTES
    height = n_models
    for _ in section.filters:
        height = height if section.padding == "same" else max(height - section.kernel + 1, 1)
    return 4.0 * folds * (height * LABELS * section.filters[-1] * section.units + section.units * LABELS)


def print_time(params: Params, nets: dict[str, Network], args: argparse.Namespace) -> None:
    """Time, a line for each base model: the longest of arithmetic, memory traffic and input counts."""
    sizes = sorted({model.image_size for model in params.models.values()})
    augmented = {size: images_per_core_second(params, size, augmented=True) for size in sizes}
    decoded = {size: images_per_core_second(params, size, augmented=False) for size in sizes}
    holdout = min(round(TRAIN * params.training.holdout), params.training.holdout_max)
    train, rate, bandwidth = TRAIN - holdout, args.tflops * 1e12 * args.gpus, args.bandwidth * 1e9 * args.gpus
    shown = {name: len(params.views_of(name, params.networks[0])) for name in params.models}
    views = "views" if len(set(shown.values())) > 1 else next(iter(shown.values()))
    print("\nTime")
    print(f"  train images     {TRAIN:,} − {holdout:,} held out = {train:,}")
    print("  training         images × epochs × 3 (forward, backward twice as much) × 2 FLOP × multiply-adds")
    print(f"  prediction       {VALIDATION + TEST:,} × {views} (TTA) + held out × epochs, forward")
    print(f"  arithmetic       / ({args.gpus} GPU × {args.tflops:g} TFLOP/s sustained, assumed)")
    print(f"  memory           2 B × values read and written / ({args.gpus} GPU × {args.bandwidth:g} GB/s, assumed)")
    for size in sizes:
        print(
            f"  input, {size} px    {args.cores} cores × {augmented[size]:.0f} images/s decoded and augmented, "
            f"{decoded[size]:.0f} decoded only (measured)"
        )
    print(
        f"\n  {'base model':<23}{'px':>4}{'Mparam':>8}{'GMAC':>7}{'Mvalue':>8}{'epochs':>7}{'PFLOP':>9}"
        f"{'arithm. h':>11}{'memory h':>10}{'input h':>9}{'counts h':>10}"
    )
    total = 0.0
    for name, model in params.models.items():
        cost = hours(model, nets[name], train, holdout, shown[name], rate, bandwidth)
        size = model.image_size
        core_seconds = train * model.epochs / augmented[size] + (VALIDATION + TEST) / decoded[size]
        cost["input"] = core_seconds / args.cores / HOUR
        longest = max(cost["arithmetic"], cost["memory"], cost["input"])
        total += longest
        net = nets[name]
        print(
            f"  {name:<23}{size:>4}{net.parameters / 1e6:>8.1f}{net.multiply_adds / 1e9:>7.2f}"
            f"{net.activation_values / 1e6:>8.1f}{model.epochs:>7}{cost['pflop']:>9,.0f}{cost['arithmetic']:>11.1f}"
            f"{cost['memory']:>10.1f}{cost['input']:>9.1f}{longest:>10.1f}"
        )
    download = (TRAIN + VALIDATION + TEST) / args.download_rate / HOUR
    print(f"  {'sum of base models':<76}{total:>30.1f}")
    how = f"download, {TRAIN + VALIDATION + TEST:,} / {args.download_rate:g} images/s (assumed)"
    print(f"  {how:<76}{download:>30.1f}")
    print(f"  {'total':<76}{total + download:>30.1f} h = {(total + download) / 24:.1f} days")
    print("  Left out, small beside these: stackers, blend, thresholds, report, fetching ImageNet weights.")


def hours(
    model: ModelSection, net: Network, train: int, holdout: int, views: int, rate: float, bandwidth: float
) -> dict[str, float]:
    """Forward passes of training (a backward pass counts as two), hold-out and prediction, as PFLOP and hours."""
    passes = 3 * train * model.epochs + holdout * model.epochs + views * (VALIDATION + TEST)
    flop = passes * 2 * net.multiply_adds
    return {
        "pflop": flop / 1e15,
        "arithmetic": flop / rate / HOUR,
        "memory": passes * 2 * net.activation_values / bandwidth / HOUR,
    }


def main() -> None:
    """Count, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--photos", type=Path, help="measure the mean size of stored images on this folder's photos")
    parser.add_argument("--tflops", type=float, default=20, help="sustained TFLOP/s of one GPU in mixed precision")
    parser.add_argument("--bandwidth", type=float, default=600, help="sustained GB/s of one GPU's memory")
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--cores", type=int, default=16, help="CPU cores that decode and augment")
    parser.add_argument("--download-rate", type=float, default=200, help="images/s that the hosts deliver")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    params = load_params(args.recipe)
    nets = networks(params)
    print_disk(params, nets, stored_bytes(args.photos, params) if args.photos else STORED_BYTES)
    print_time(params, nets, args)


if __name__ == "__main__":
    main()
