"""Memory of the stages `stack` and `blend` on predictions that are more than they may keep: a git revision against now.

    python benchmarks/second_level_memory.py --base REVISION [--rows 20000] [--models 4] [--labels 300] [--budget 50]

A process for each revision generates base predictions, writes them in its own form, and does the work of both stages,
stackers nested. Printed are a stage's seconds, the largest memory of its own (RssAnon, looked at
every 5 ms) and that with mapped files (VmHWM), which the system takes back when it needs it. ``--budget`` is what may
be in memory, in MB, in the place of ``IN_MEMORY``; 0 leaves that. Both revisions' scores, weights and predictions are
compared. At last the time to write and read what the default run has: 500 rows × 44 labels, 4 models and 5 stackers.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from revision import ROOT, run_with, source_of

STACKERS = {"mean": {"kind": "mean"}, "weighted": {"kind": "weighted_mean"}, "greedy": {"kind": "greedy"}}
K = 5


def write_workspace(rows: int, models: int, labels: int) -> None:
    """Params, tables and base predictions, as far as the second level reads them."""
    import pandas as pd

    from labelstack.formats.manifest import write_manifest
    from labelstack.params import load_params
    from labelstack.predictions import write_predictions
    from labelstack.stacking.bench.generator import generate
    from labelstack.stacking.folds import assign_folds
    from labelstack.stages import paths
    from labelstack.stages.fold_files import write_audit, write_stacking
    from labelstack.stages.members import base_models

    network = {"backbone": "pixels", "image_size": 16, "epochs": 1}
    content = {
        "models": {f"m{number}": network for number in range(models)},
        "stackers": STACKERS,
        "folds": {"k": K},
        "thresholds": {"strategy": "global", "calibration": "none", "rows": 2000},
    }
    Path("params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    data = generate(rows, models, labels, n_test=rows // 4)
    assert data.test_cube is not None
    Y, ids = data.labels >= 0.5, np.arange(rows)
    for split, given, answers in (("validation", ids, Y), ("test", np.arange(len(data.test_cube)) + rows, None)):
        named = [None] * len(given) if answers is None else [np.flatnonzero(row).tolist() for row in answers]
        table = {"image_id": given, "url": [[]] * len(given), "label_id": named}
        write_manifest(paths.manifest(split), pd.DataFrame(table))
    name = [f"label {number}" for number in range(labels)]
    pd.DataFrame({"label_id": np.arange(labels), "name": name, "group": "all"}).to_parquet(paths.LABELS)
    write_stacking(ids, assign_folds(Y, K, 0))
    write_audit(None)
    for place, one in enumerate(base_models(load_params())):
        write_predictions(one.oof, ids, data.cube[:, place])
        write_predictions(one.test, np.arange(len(data.test_cube)) + rows, data.test_cube[:, place])


def measured(stage: str, budget: int) -> dict[str, Any]:
    """Run one stage's work here; seconds and bytes."""
    from labelstack.params import load_params
    from labelstack.stacking import fold_predictions
    from labelstack.stacking.bench.process import peak_memory
    from labelstack.stages.members import THE_BLEND, stacker
    from labelstack.stages.work import fit_blend, fit_stacker
    from labelstack.support import storage

    if budget and hasattr(fold_predictions, "IN_MEMORY"):
        fold_predictions.IN_MEMORY = budget
    params, most, ended = load_params(), [0], threading.Event()
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again

    def look() -> None:
        while not ended.wait(0.005):
            status = Path("/proc/self/status").read_text()
            most[0] = max(most[0], 1024 * int(status.partition("RssAnon:")[2].split()[0]))

    watch = threading.Thread(target=look)
    watch.start()
    start = time.perf_counter()
    if stage == "blend":
        fit_blend.compute(params)
    else:
        fit_stacker.compute(params, stage, Path("data/work") / stage)
    seconds = time.perf_counter() - start
    ended.set()
    watch.join()
    own = THE_BLEND if stage == "blend" else stacker(stage)
    found = {"seconds": seconds, "own": most[0], "mapped": peak_memory(), "scores": storage.read_json(own.scores)}
    return found | ({"weights": storage.read_json(own.learnt)["weights"]} if stage == "blend" else {})


def files_time() -> dict[str, float]:
    """Seconds to write and to read the predictions of a default run, the fastest of five times."""
    from labelstack.predictions import read_predictions, write_predictions

    random, ids = np.random.default_rng(0), np.arange(500)
    P, nested = random.random((500, 44), np.float32) ** 4, random.random((500, 5, 44), np.float32) ** 4
    todo = [("m", P)] * 4 * 2 + [("s", P)] * 5 * 2 + [("n", nested)] * 5  # oof and test of all; nested of stackers
    written, read = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(5):
            start = time.perf_counter()
            for place, (name, values) in enumerate(todo):
                write_predictions(Path(folder) / f"{name}{place}.npy", ids, values)
            written.append(time.perf_counter() - start)
            start = time.perf_counter()
            for place, (name, _) in enumerate(todo):
                read_predictions(Path(folder) / f"{name}{place}.npy").rows_of(ids)
            read.append(time.perf_counter() - start)
    return {"write": min(written), "read": min(read)}


def answers() -> dict[str, np.ndarray]:
    """The blend's predictions and those of stackers, as the revision in use reads them."""
    from labelstack.predictions import read_predictions
    from labelstack.stages.members import THE_BLEND, stacker

    files = {f"{one.name} {part}": getattr(one, part) for one in map(stacker, STACKERS) for part in ("oof", "nested")}
    files |= {"blend oof": THE_BLEND.oof, "blend test": THE_BLEND.test}
    return {name: read_predictions(file).probability for name, file in files.items()}


def child(args: argparse.Namespace) -> None:
    """All that one revision does; a line of JSON for each stage, and one of the files' time."""
    args.folder.mkdir(parents=True)
    os.chdir(args.folder)
    write_workspace(args.rows, args.models, args.labels)
    for stage in (*STACKERS, "blend"):
        print(json.dumps({"stage": stage} | measured(stage, args.budget * 1_000_000)), flush=True)
    np.savez("answers.npz", allow_pickle=False, **answers())  # type: ignore[arg-type]
    print(json.dumps({"stage": "files"} | files_time()))


def main() -> None:
    """Run both revisions; print a table and what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help="git revision to compare with")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--labels", type=int, default=300)
    parser.add_argument("--budget", type=int, default=50, help="MB in memory; 0: IN_MEMORY")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder:
        child(args)
        return
    if not args.base:
        sys.exit("give --base REVISION")
    shape = [f"--{name}={getattr(args, name)}" for name in ("rows", "models", "labels", "budget")]
    print(
        f"{args.rows:,} rows × {args.models} models × {args.labels} labels, {K} folds, nested; {args.budget} MB",
        flush=True,
    )
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary, source_of(args.base, Path(temporary)) as before:
        for name, source in (("before", before), ("now", ROOT / "src")):
            said = run_with(source, Path(__file__).name, f"--folder={Path(temporary) / name}", *shape)
            found[name] = {row["stage"]: row for row in map(json.loads, said.splitlines())}
            files = found[name].pop("files")
            for stage, row in found[name].items():
                memory = f"own {row['own'] / 1e6:6.0f} MB, with mapped files {row['mapped'] / 1e6:6.0f} MB"
                print(f"{name:7} {stage:9} {row['seconds']:7.1f} s  {memory}", flush=True)
            print(
                f"{name:7} files of a default run: write {files['write']:.3f} s, read {files['read']:.3f} s", flush=True
            )
        compare(found, *(np.load(Path(temporary) / name / "answers.npz") for name in ("before", "now")))


def compare(found: dict[str, dict[str, Any]], before: Any, now: Any) -> None:
    """Print how far scores, weights and predictions are apart."""
    for stage in (*STACKERS, "blend"):
        one, other = (found[name][stage] for name in ("before", "now"))
        apart = max(abs(one["scores"][key] - other["scores"][key]) for key in one["scores"])
        print(f"{stage}: scores differ by {apart:.6f} at most")
    weights = [found[name]["blend"]["weights"] for name in ("before", "now")]
    print(f"weights of the blend differ by {max(abs(weights[0][key] - weights[1][key]) for key in weights[0]):.2g}")
    for name in before:
        print(f"{name}: probabilities differ by {np.abs(before[name] - now[name]).max():.2g}")


if __name__ == "__main__":
    main()
