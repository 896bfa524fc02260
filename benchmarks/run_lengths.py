"""The run-length codec beside a loop over pixels and beside slicing run by run: python benchmarks/run_lengths.py

Photos with garments of the sizes that iMaterialist 2019 has, about 2 kB of runs a row. Seconds are of one processor,
the shortest of several; each way starts from the same texts and gives the same pixels, or the other way round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from labelstack.masks.run_geometry import resized
from labelstack.masks.run_lengths import decode, encode, encode_map, paint
from labelstack.masks.run_text import read_runs, write_runs

BACKGROUND = 46
Masks = NDArray[np.bool_]


def drawn(height: int, width: int, instances: int, seed: int) -> Masks:
    """Blobs with ragged rims, bool [instances, height, width]."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((instances, height, width), np.uint8)
    for mask in masks:
        centre = rng.uniform(0.2, 0.8, 2) * [width, height]
        turns = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        reach = rng.uniform(0.05, 0.2) * np.array([width, height]) * rng.uniform(0.85, 1.15, (60, 1))
        outline = centre + np.stack([np.cos(turns), np.sin(turns)], axis=1) * reach
        cv2.fillPoly(mask, [outline.astype(np.int32)], 1)
    return masks.astype(bool)


def looped_decode(text: str, height: int, width: int) -> Masks:
    """A pixel after the other."""
    values = [int(word) for word in text.split()]
    mask = np.zeros((height, width), bool)
    for start, length in zip(values[0::2], values[1::2], strict=True):
        for place in range(start - 1, start - 1 + length):
            mask[place % height, place // height] = True
    return mask


def looped_encode(mask: Masks) -> str:
    """A pixel after the other."""
    height, width = mask.shape
    words, begin = [], None
    for x in range(width):
        for y in range(height):
            place = x * height + y
            if mask[y, x] and begin is None:
                begin = place
            elif not mask[y, x] and begin is not None:
                words += [begin + 1, place - begin]
                begin = None
    if begin is not None:
        words += [begin + 1, height * width - begin]
    return " ".join(map(str, words))


def sliced_decode(texts: list[str], height: int, width: int) -> Masks:
    """A slice for each run, as public kernels have it (rle_decode, Kaggle)."""
    masks = np.zeros((len(texts), height * width), bool)
    for mask, text in zip(masks, texts, strict=True):
        words = text.split()
        starts, lengths = (np.asarray(part, dtype=int) for part in (words[0::2], words[1::2]))
        starts -= 1
        for low, high in zip(starts, starts + lengths, strict=True):
            mask[low:high] = True
    return masks.reshape(len(texts), width, height).transpose(0, 2, 1)


def sliced_paint(texts: list[str], classes: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """A class map, a slice for each run."""
    picture = np.full(height * width, BACKGROUND, np.uint8)
    for text, value in zip(texts, classes, strict=True):
        numbers = list(map(int, text.split()))
        for start, length in zip(numbers[0::2], numbers[1::2], strict=True):
            picture[start - 1 : start - 1 + length] = value
    return picture.reshape(height, width, order="F")


def shortest(work: Callable[[], Any], times: int = 30) -> tuple[float, Any]:
    """Seconds, and what came out."""
    seconds = []
    for _ in range(times):
        start = time.process_time()
        result = work()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def main() -> None:
    """Print milliseconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--height", type=int, default=1000)
    parser.add_argument("--width", type=int, default=750)
    parser.add_argument("--instances", type=int, default=8)
    given = parser.parse_args()
    height, width, n = given.height, given.width, given.instances
    masks = drawn(height, width, n, 0)
    sides = [np.full(n, side) for side in (height, width)]
    ours_encode, texts = shortest(lambda: write_runs(encode(masks)))
    characters = np.mean(list(map(len, texts)))
    print(f"{n} masks of {height} × {width}, {characters:,.0f} characters of runs each; other ways in times as long")

    def read() -> Any:
        return read_runs(texts, *sides)[0]

    ours_decode, pixels = shortest(lambda: decode(read()))
    loop_encode, again = shortest(lambda: [looped_encode(mask) for mask in masks], 1)
    assert again == texts
    loop_decode, loop_pixels = shortest(lambda: [looped_decode(text, height, width) for text in texts], 3)
    slice_decode, slice_pixels = shortest(lambda: sliced_decode(texts, height, width))
    assert np.array_equal(pixels, masks)
    assert all(np.array_equal(loop_pixels, other) for other in (slice_pixels, masks))
    print(
        f"pixels to text: {ours_encode * 1e3:.2f} ms; loop over pixels {loop_encode / ours_encode:,.0f} times as long"
    )
    print(
        f"text to pixels: {ours_decode * 1e3:.2f} ms; loop over pixels {loop_decode / ours_decode:,.0f} times, "
        f"slicing run by run {slice_decode / ours_decode:.1f} times"
    )
    there, back = loop_encode + loop_decode, ours_encode + ours_decode
    print(f"both ways: {back * 1e3:.2f} ms; loop over pixels {there / back:,.0f} times")
    classes = np.arange(n, dtype=np.uint8)
    ours_paint, picture = shortest(lambda: paint(read(), classes, BACKGROUND))
    slice_paint, theirs = shortest(lambda: sliced_paint(texts, classes, height, width))
    assert np.array_equal(picture, theirs)
    print(
        f"text to class map: {ours_paint * 1e3:.2f} ms; slicing run by run {slice_paint / ours_paint:.1f} times as long"
    )
    again, (values, _) = shortest(lambda: encode_map(picture, BACKGROUND))
    print(f"class map to runs of {len(values)} classes: {again * 1e3:.2f} ms")
    small, _ = shortest(lambda: paint(resized(read(), 224, 224), classes, BACKGROUND))
    print(f"text to class map at 224 × 224: {small * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
