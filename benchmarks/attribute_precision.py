"""What FashionAI's scores cost beside the plain loop over the official text: python benchmarks/attribute_precision.py

Seconds are of one processor.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.scoring.attribute_precision import MAP, MAP_OFFICIAL, MAYBE, NO, YES, AttributePrecision, letters_of
from labelstack.support.fashionai_values import FIRST, VALUES

GROUP = np.array([key for key, values in VALUES.items() for _ in values])


def made(n: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Letters, softmax probabilities and attributes of n rows, a tenth of which may be something else too."""
    rng = np.random.default_rng(0)
    known = rng.choice(list(VALUES), n)
    first, count = (
        np.array([table[key] for key in known]) for table in (FIRST, {k: len(v) for k, v in VALUES.items()})
    )
    Y, maybe = np.zeros((n, len(GROUP)), bool), np.zeros((n, len(GROUP)), bool)
    Y[np.arange(n), first + rng.integers(0, count)] = True
    maybe[np.arange(n), first + rng.integers(0, count)] = rng.random(n) < 0.1
    P = np.exp(rng.normal(size=Y.shape) + 2 * Y).astype(np.float32)
    return letters_of(Y, maybe), P / P.sum(axis=1, keepdims=True), known


def looped(truth: NDArray[Any], P: NDArray[Any], known: NDArray[Any]) -> float:
    """The reading ``dropped``: threshold by threshold, each over all images of the attribute."""
    found = []
    for key in VALUES:
        columns, rows = np.flatnonzero(key == GROUP).tolist(), np.flatnonzero(known == key).tolist()
        pairs = []
        for row in rows:
            best = max(columns, key=lambda column: P[row, column])
            if truth[row, best] != MAYBE:
                pairs.append((float(P[row, best]), int(truth[row, best])))
        total = 0.0
        for threshold, _ in pairs:
            pred = correct = 0
            for probability, letter in pairs:
                if probability >= threshold:
                    pred, correct = pred + (letter in (NO, YES)), correct + (letter == YES)
            total += correct / pred
        found.append(total / len(pairs))
    return float(np.mean(found))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of one processor, which other work on the machine does not change, and what came out."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def main() -> None:
    """Print seconds of one score and of an interval, and the ratio to the loop at fewer rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--loop-rows", type=int, default=8_000)
    given = parser.parse_args()
    data = made(given.rows)
    for reading in (MAP, MAP_OFFICIAL):
        once, score = timed(lambda reading=reading: AttributePrecision(*data, GROUP).score(reading))
        print(f"mAP ({reading.reading}) {given.rows:,} rows × {len(GROUP)} values: {score:.6f} in {once:.3f} s")
    scored = AttributePrecision(*data, GROUP)
    many, interval = timed(lambda: scored.interval(MAP, draws=given.draws))
    print(f"{given.draws:,} resamples: {interval.low:.6f} to {interval.high:.6f} in {many:.1f} s")
    few = tuple(part[: given.loop_rows] for part in data)
    ours, score = timed(lambda: AttributePrecision(*few, GROUP).score(MAP))
    theirs, plain = timed(lambda: looped(*few))
    print(
        f"{given.loop_rows:,} rows: {ours:.4f} s, the plain loop {theirs:.1f} s ({theirs / ours:,.0f} times as long), "
        f"scores differ by {abs(score - plain):.1e}; the loop grows with the square of the rows"
    )


if __name__ == "__main__":
    main()
