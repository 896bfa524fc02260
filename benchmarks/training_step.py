"""Milliseconds of a training step on this machine: a git revision against now, and what options of `training` change.

Each figure is the median of the steps of a process of its own after three for warming up; the ways of one network come
in turns in each round, and ratios are medians over rounds.

    python benchmarks/training_step.py [--base REVISION] [--networks mobilenet-160 …] [--rounds 3] [--steps 10]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from revision import ROOT, run_with, source_of

LABELS, BATCH = 228, 32
NETWORKS: dict[str, dict[str, Any]] = {
    "small_cnn-64": {"backbone": "small_cnn", "image_size": 64},
    "small_resnet-96": {"backbone": "small_resnet", "image_size": 96},
    "mobilenet-160": {"backbone": "mobilenet", "image_size": 160},
    "efficientnet_lite0-160": {"backbone": "efficientnet_lite0", "image_size": 160},
    "efficientnet_lite0-224": {"backbone": "efficientnet_lite0", "image_size": 224},
    "resnet50-224": {"backbone": "resnet50", "image_size": 224},
    "pixels-32": {"backbone": "pixels", "image_size": 32},
    "silhouette-32": {"backbone": "silhouette", "image_size": 32},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "now": {},
    "jit_compile": {"jit_compile": True},
    "bfloat16": {"mixed_precision": "bfloat16"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help="git revision to compare with")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS)[:3])
    parser.add_argument("--ways", nargs="+", choices=OPTIONS, default=list(OPTIONS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--of", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.of:
        print(json.dumps(step_ms(*arguments.of, arguments.steps)))
        return
    print(f"{'':26}{'way':14}{'ms, least':>10}{'ratio to ' + (arguments.base or 'now'):>20}")
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.base:
            with source_of(arguments.base, Path(temporary)) as base:
                table(arguments, base)
        else:
            table(arguments, None)


def table(arguments: argparse.Namespace, base: Path | None) -> None:
    ways = {"before": (base, "now")} if base else {}
    ways |= {name: (ROOT / "src", name) for name in arguments.ways}
    for network in arguments.networks:
        found: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(arguments.rounds):
            for name, (source, options) in ways.items():
                answer = run_with(
                    source or ROOT / "src",
                    "training_step.py",
                    "--of",
                    network,
                    options,
                    "--steps",
                    str(arguments.steps),
                )
                found[name].append(json.loads(answer.splitlines()[-1]) or np.nan)
        first = np.array(next(iter(found.values())))
        for name, each in found.items():
            ratios = np.array(each) / first
            told = f"{min(each):10.1f}{np.median(ratios):10.2f} ({ratios.min():.2f} … {ratios.max():.2f})"
            print(f"{network:26}{name:14}{'  not possible' if np.isnan(each).any() else told}", flush=True)


def step_ms(network: str, way: str, steps: int) -> float | None:
    """Median milliseconds of a step with what ``labelstack`` is found; None where the network cannot be so."""
    from labelstack.networks.determinism import make_deterministic
    from labelstack.networks.learner import Learner, make_optimizer
    from labelstack.networks.model import build_model
    from labelstack.networks.tasks import TASKS
    from labelstack.params.models import ModelSection
    from labelstack.support.errors import UserError

    options = OPTIONS[way]
    precision = options.get("mixed_precision", False)
    make_deterministic(0)
    rng = np.random.default_rng(0)
    params = ModelSection(**NETWORKS[network], weights="none")
    task = TASKS["multi_label"](params, LABELS, np.full(LABELS, 0.1))
    model = build_model(params, task, mixed_precision=precision)
    extra = {"jit_compile": True} if options.get("jit_compile") else {}
    learner = Learner(model, make_optimizer(params, precision), task.loss, **extra)
    images = rng.integers(0, 256, (BATCH, params.image_size, params.image_size, 3), dtype=np.uint8)
    targets = (rng.random((BATCH, LABELS)) < 0.1).astype(np.float32)
    times = []
    try:
        for _ in range(3 + steps):
            start = time.perf_counter()
            float(learner.step(images, targets, 1e-3))
            times.append(time.perf_counter() - start)
    except UserError:
        return None
    return float(np.median(times[3:]) * 1000)


if __name__ == "__main__":
    main()
