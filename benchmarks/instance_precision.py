"""What the metric of iMaterialist 2019 costs at the competition's size: python benchmarks/instance_precision.py

Seconds are of the clock.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from labelstack.masks.run_lengths import RunLengths, offsets
from labelstack.scoring.bootstrap import interval_of_mean
from labelstack.scoring.instance_precision import Instances, photo_scores

SIDE = 512


def made(photos: int, instances: int, shift: int) -> Instances:
    """Ragged bars of about 110 runs each, pushed down by up to ``shift`` pixels."""
    rng, moved = np.random.default_rng(0), np.random.default_rng(shift)
    n = photos * instances
    columns = rng.integers(60, 160, n)
    first, mask = offsets(columns), np.repeat(np.arange(n), columns)
    left, top, tall = rng.integers(0, SIDE - 160, n), rng.integers(20, 250, n), rng.integers(60, 200, n)
    x = left[mask] + np.arange(first[-1]) - first[mask]
    y = top[mask] + rng.integers(-4, 5, first[-1]) + (moved.integers(0, shift + 1, n)[mask] if shift else 0)
    masks = RunLengths(x * SIDE + y, tall[mask] + rng.integers(-4, 5, first[-1]), first, *np.full((2, n), SIDE))
    attributes = [frozenset(rng.choice(92, 2).tolist()) if i % 30 == 0 else frozenset[int]() for i in range(n)]
    return Instances(np.repeat(np.arange(photos), instances), rng.integers(0, 13, n), attributes, masks)


def main() -> None:
    """Print scores and seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=3193)
    parser.add_argument("--instances", type=int, default=8)
    given = parser.parse_args()
    truth, found = (made(given.photos, given.instances, shift) for shift in (0, 60))
    print(
        f"{given.photos:,} photos × {given.instances} instances, {len(truth.masks.start):,} true runs, {SIDE} × {SIDE}"
    )
    for attributes in (True, False):
        start = time.perf_counter()
        scores = photo_scores(truth, found, given.photos, attributes=attributes)
        once = time.perf_counter() - start
        told = interval_of_mean(scores)
        both = time.perf_counter() - start
        named = "category and attributes" if attributes else "category alone"
        print(
            f"{named}: {told.score:.4f} ({told.low:.4f} … {told.high:.4f}), {once:.2f} s, interval {both - once:.2f} s"
        )


if __name__ == "__main__":
    main()
