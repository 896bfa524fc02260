"""Images a second into a network: ours, a plain loop, Keras layers, and decoding alone, side by side in one run.

Every image is a stored JPEG (short side 256 px) and becomes 224 × 224 × 3 uint8. The rates are the best of several
turns, taken one after the other in each round, so that other work on the machine meets all of them.

    python benchmarks/input_pipeline.py [--photos FOLDER] [--n 600] [--rounds 3] [--base REVISION] [--no-keras]
    python benchmarks/input_pipeline.py --memory

About three minutes. ``--base`` adds a revision's loader, in a process of its own for each round, as the present one
then runs too. Ratios are medians over rounds, each of rates that were measured one after the other. ``--memory``
measures, instead, what 8 shuffled shards of 1,000 images take (one minute).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from revision import ROOT, run_with, source_of

from labelstack.images.loader import TrainingBatches, evaluation_batches
from labelstack.images.pixels.decode import decode, to_stored_jpeg
from labelstack.images.pixels.imgaug_compat import import_augmenters
from labelstack.images.shards.shard_files import SCHEMA, read_jpegs, shard_paths
from labelstack.params.augment import AugmentSection
from labelstack.sample.labels import sample_outfit
from labelstack.sample.scene import encode_jpeg, photograph
from labelstack.support.cores import cores

SIZE, STORE, BATCH, SHARD = 224, 256, 64, 100
POLICY = AugmentSection()
OPTIONS: dict[str, Any] = {"size": SIZE, "batch_size": BATCH, "seed": 0, "augment": POLICY, "cache_bytes": 0}
DECODE, LOOP = "decode only, evaluation_batches", "(a) plain loop: decode, imgaug.Sequential"
OURS = f"TrainingBatches, workers: {cores()}"
BEFORE, NOW = f"{OURS}, the revision before", f"{OURS}, now, alike"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of photographs; else garment photos are drawn")
    parser.add_argument("--n", type=int, default=600, help="images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base", help="git revision to compare with")
    parser.add_argument("--no-keras", action="store_true", help="leave out (b)")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--rate-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rate_of:
        print(loader_rate(arguments.rate_of, arguments.n))
        return
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        shards = Path(temporary) / "shards"
        shards.mkdir()
        base = stack.enter_context(source_of(arguments.base, Path(temporary))) if arguments.base else None
        jpegs = stored(arguments.photos, arguments.n)
        if arguments.memory:
            write_shards(shards, (jpegs * (16_000 // len(jpegs) + 1))[:16_000], 1000)
            memory(shards, 16_000)
        else:
            write_shards(shards, jpegs, SHARD)
            rates(shards, len(jpegs), arguments.rounds, base, keras=not arguments.no_keras)


def stored(photos: Path | None, n: int) -> list[bytes]:
    """JPEGs as the download stores them."""
    if photos is None:
        some = [to_stored_jpeg(garment(number), STORE, 90)[0] for number in range(min(n, 200))]
        return (some * (n // len(some) + 1))[:n]
    files = sorted(file for file in photos.iterdir() if file.suffix.lower() in {".jpg", ".jpeg", ".png"})
    files = (files * (n // len(files) + 1))[:n]
    return [to_stored_jpeg(file.read_bytes(), STORE, 90)[0] for file in files]


def garment(number: int) -> bytes:
    """A drawn photo, 320 px wide."""
    rng = np.random.default_rng([7, number])
    return encode_jpeg(photograph(sample_outfit(rng), 320, rng), 92)


def write_shards(folder: Path, jpegs: list[bytes], rows: int) -> None:
    for start in range(0, len(jpegs), rows):
        part = jpegs[start : start + rows]
        ids = pa.array(range(start + 1, start + 1 + len(part)), pa.int64())
        sides = pa.array([0] * len(part), pa.int32())
        table = pa.table([ids, pa.array(part, pa.binary()), ["ok"] * len(part), sides, sides], schema=SCHEMA)
        path = folder / f"shard-{start // rows:05d}.parquet"
        pq.write_table(table, path, compression="none", use_dictionary=["status"])


def loader_rate(shards: Path, n: int) -> float:
    """Images a second of ``TrainingBatches`` with a worker for each core, the better of two epochs after the first."""
    best = 0.0
    with TrainingBatches(shards, np.arange(1, n + 1), np.zeros((n, 228), np.float32), **OPTIONS) as batches:
        for number in range(3):
            start = time.perf_counter()
            count = sum(len(images) for images, _ in batches.epoch(number))
            best = max(best, count / (time.perf_counter() - start) if number else 0)
    return best


def rates(shards: Path, n: int, rounds: int, base: Path | None, *, keras: bool) -> None:
    jpegs = [bytes(view or b"") for path in shard_paths(shards) for view in read_jpegs(path).jpeg]
    processes = cores()
    ids = np.arange(1, n + 1)
    targets = np.zeros((n, 228), np.float32)
    with (
        TrainingBatches(shards, ids, targets, workers=processes, **OPTIONS) as ours,
        TrainingBatches(shards, ids, targets, workers=1, **OPTIONS) as one_worker,
        TrainingBatches(shards, ids, targets, workers=0, **OPTIONS) as here,
    ):
        numbers = iter(range(10**6))
        parent = cpu_of_parent(ours)
        ways: dict[str, tuple[int, Callable[[], Iterator[Any]]]] = {
            "decode only": (1, lambda: decoded(jpegs)),
            DECODE: (processes, lambda: evaluated(shards)),
            OURS: (processes, lambda: (x for x, _ in ours.epoch(next(numbers)))),
            "TrainingBatches, workers: 1": (1, lambda: (x for x, _ in one_worker.epoch(next(numbers)))),
            "TrainingBatches, workers: 0": (1, lambda: (x for x, _ in here.epoch(next(numbers)))),
            LOOP: (1, lambda: plain_loop(jpegs)),
        }
        if keras:
            ways["(b) Keras layers in tf.data, image by image"] = (processes, keras_pipeline(jpegs, batched=False))
            ways["(b) Keras layers in tf.data, whole batches"] = (processes, keras_pipeline(jpegs, batched=True))
        found: dict[str, list[float]] = {name: [] for name in ways}
        revisions: dict[str, list[float]] = {BEFORE: [], NOW: []}
        for turn in range(rounds + 1):  # the first is a warm-up
            for name, (_, images) in ways.items():
                start = time.perf_counter()
                count = sum(len(batch) for batch in images())
                rate = count / (time.perf_counter() - start)
                assert count == n, f"{name}: {count} images instead of {n}"
                found[name] += [rate] * (turn > 0)
            if base is not None and turn:
                for name, source in ((BEFORE, base), (NOW, ROOT / "src")):
                    answer = run_with(source, "input_pipeline.py", "--rate-of", str(shards), "--n", str(n))
                    revisions[name].append(float(answer))
    print(f"\n{n} images, {np.mean([len(jpeg) for jpeg in jpegs]) / 1000:.1f} kB each, {SIZE} px, batches of {BATCH}")
    print(f"{'':46}cores   images/s, best")
    for name, (used, _) in ways.items():
        print(f"{name:46}{used:5}{max(found[name]):11,.0f}")
    for name, each in revisions.items():
        if each:
            print(f"{name:46}{processes:5}{max(each):11,.0f}")
    print(f"\nratios, median of {rounds} rounds (least … most)")
    print_ratio("against (a) the plain loop", found[OURS], found[LOOP])
    if keras:
        fastest = max((name for name in found if name.startswith("(b)")), key=lambda name: max(found[name]))
        print_ratio("against (b) Keras layers", found[OURS], found[fastest])
    if base is not None:
        print_ratio("against the revision before", revisions[NOW], revisions[BEFORE])
        print_ratio("before, of the rate of decoding", revisions[BEFORE], found[DECODE])
    print_ratio("of the rate of decoding", found[OURS], found[DECODE])
    print(f"parent's own CPU time        {parent * 1e6:6.0f} µs an image: at most {1 / parent:,.0f} images/s")
    if keras:
        print(KERAS_DIFFERS)


def print_ratio(name: str, ours: list[float], theirs: list[float]) -> None:
    each = np.array(ours) / np.array(theirs)
    print(f"{name:34}{np.median(each):6.2f}   ({each.min():.2f} … {each.max():.2f})")


def cpu_of_parent(batches: TrainingBatches) -> float:
    """CPU seconds an image of this process, all threads, while workers make the images; before TensorFlow is here."""
    spent = count = 0.0
    for number in (10**6, 10**6 + 1):  # the first starts the workers
        start = time.process_time()
        count = sum(len(images) for images, _ in batches.epoch(number))
        spent = time.process_time() - start
    return spent / count


def decoded(jpegs: list[bytes]) -> Iterator[list[Any]]:
    cv2.setNumThreads(1)
    for jpeg in jpegs:
        yield [decode(jpeg, SIZE)]


def evaluated(shards: Path) -> Iterator[Any]:
    return (images for _, images in evaluation_batches(shards, None, SIZE, BATCH))


def plain_loop(jpegs: list[bytes]) -> Iterator[Any]:
    """What one would write first: imgaug's own augmenters, an image at a time, batches stacked."""
    iaa = import_augmenters()
    hue = tuple(round(value) for value in POLICY.hue_and_saturation)
    sometimes = [
        iaa.Affine(rotate=POLICY.rotate, mode="reflect"),
        iaa.AddToHueAndSaturation(hue),
        iaa.GaussianBlur(POLICY.gaussian_blur),
        iaa.LinearContrast(POLICY.contrast),
        iaa.Sharpen(alpha=POLICY.sharpen, lightness=1.0),
        iaa.Emboss(alpha=POLICY.emboss, strength=1.0),
        iaa.Crop(percent=POLICY.crop, keep_size=True),
    ]
    operations = [iaa.Fliplr(POLICY.flip), *(iaa.Sometimes(POLICY.chance, one) for one in sometimes)]
    sequence = iaa.Sequential(operations, seed=1)
    for start in range(0, len(jpegs), BATCH):
        yield np.stack([sequence.augment_image(decode(jpeg, SIZE)) for jpeg in jpegs[start : start + BATCH]])


KERAS_DIFFERS = """
(b), of which the faster counts, is as near as Keras comes: RandomFlip, RandomRotation (reflect), RandomHue and
RandomSaturation (separate amounts), RandomGaussianBlur (3 × 3), RandomContrast, RandomSharpness; for emboss, which
Keras lacks, a second RandomSharpness; for the crop RandomZoom. Image by image each is applied with the policy's chance;
whole batches get every operation. TensorFlow decodes and resizes the JPEGs, on all cores."""


def keras_pipeline(jpegs: list[bytes], *, batched: bool) -> Callable[[], Iterator[Any]]:
    """The same policy in Keras preprocessing layers, mapped over tf.data: on all cores, batched, prefetched."""
    import keras
    import tensorflow as tf

    layers = keras.layers
    hue, every = POLICY.hue_and_saturation[1] / 255, {"value_range": (0, 255)}
    flip = layers.RandomFlip("horizontal")
    chain = [
        layers.RandomRotation(POLICY.rotate[1] / 360, fill_mode="reflect"),
        layers.RandomHue(hue, **every),
        layers.RandomSaturation((0.5 - hue, 0.5 + hue), **every),
        layers.RandomGaussianBlur(kernel_size=3, sigma=(0.001, POLICY.gaussian_blur[1]), **every),
        layers.RandomContrast(POLICY.contrast[1] - 1, **every),
        layers.RandomSharpness(POLICY.sharpen[1], **every),
        layers.RandomSharpness(POLICY.emboss[1], **every),
        layers.RandomZoom((-2 * POLICY.crop[1], 0), fill_mode="reflect"),
    ]

    def load(jpeg: Any) -> Any:
        return tf.image.resize(tf.io.decode_jpeg(jpeg, channels=3), (SIZE, SIZE))

    def augment(images: Any) -> Any:
        images = flip(images, training=True)
        for layer in chain:
            if batched:
                images = layer(images, training=True)
            else:
                chosen = tf.random.uniform(()) < POLICY.chance
                images = tf.cond(chosen, lambda x=images, f=layer: f(x, training=True), lambda x=images: x)
        return tf.cast(tf.clip_by_value(images, 0, 255), tf.uint8)

    data = tf.data.Dataset.from_tensor_slices(jpegs).map(load, num_parallel_calls=tf.data.AUTOTUNE)
    data = data.batch(BATCH if batched else 1).map(augment, num_parallel_calls=tf.data.AUTOTUNE)
    data = (data if batched else data.unbatch().batch(BATCH)).prefetch(tf.data.AUTOTUNE)
    return lambda: iter(data)


def memory(shards: Path, n: int) -> None:
    """Peak memory of this process over two windows of eight shards, and of its workers (Linux)."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    files = sum(path.stat().st_size for path in shard_paths(shards)) / n * 8000
    with TrainingBatches(shards, np.arange(1, n + 1), np.zeros((n, 228), np.float32), **OPTIONS) as batches:
        count = sum(len(images) for images, _ in batches.epoch(0))
        ahead = batches._maker()[1]
        assert batches._pool is not None
        workers = max(peak_of(process.pid) for process in batches._pool.processes)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"""
{count:,} images in 16 shards of 1,000, windows of 8, {SIZE} px, batches of {BATCH}, {ahead} of them ahead
  JPEGs of a window                            {files / 2**20:7.0f} MiB
  batches ahead and in hand                    {(ahead + 1) * BATCH * SIZE**2 * 3 / 2**20:7.0f} MiB
  this process, peak minus what it had before  {(after - before) / 2**10:7.0f} MiB
  a worker process, peak                       {workers / 2**10:7.0f} MiB""")


def peak_of(pid: int) -> int:
    """Peak memory of a process in kB; ``getrusage`` would count its parent's from before the exec."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    sys.exit(main())
