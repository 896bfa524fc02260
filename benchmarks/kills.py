"""Kill `dvc repro` with -9 at seeded random moments, in fresh workspaces, and compare what they end with.

    python benchmarks/kills.py [--count 100] [--each 5] [--seed 0] [--from 0] [--folder FOLDER]

The tiny pipeline of the tests runs undisturbed once. Then each workspace begins with nothing, no mlflow.db either; its
`dvc repro` is killed, with all its children, `--each` times at moments spread over the whole length, typed again each
time, and left to its end. Nothing is mended by hand. It goes on until so many kills happened. Workspace number N is
killed at moments drawn from (seed, N): `--from 5` goes on where five workspaces ended. The exit code is 1 unless every
workspace ended with the undisturbed SHA-256 of the submission and digest of the ensemble. A workspace takes three to
six minutes on two cores; those that fail are kept in FOLDER.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from killing import Round, killed_round, undisturbed  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="kills")
    parser.add_argument("--each", type=int, default=5, help="kills of one workspace")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from", type=int, default=0, dest="first", help="number of the first workspace")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="kills-"))
    folder.mkdir(parents=True, exist_ok=True)
    expected = undisturbed(folder / "undisturbed")
    print(f"undisturbed: {expected.seconds:.0f} s, the first stage after {expected.start:.1f} s, "
          f"submission {expected.submission[:12]}, ensemble {expected.ensemble[:12]}", flush=True)  # fmt: skip
    shutil.rmtree(folder / "undisturbed")
    print(f"{'workspace':>9} {'kill':>4} {'after':>7}  stage", flush=True)
    done: list[Round] = []
    while sum(len(one.kills) for one in done) < given.count:
        number, begin = given.first + len(done), time.monotonic()
        each = min(given.each, given.count - sum(len(one.kills) for one in done))
        one = killed_round(folder / str(number), given.seed, number, each, expected)
        done.append(one)
        for i, kill in enumerate(one.kills, 1):
            print(f"{number:>9} {i:>4} {kill.seconds:>6.1f}s  {kill.stage}", flush=True)
        result = one.problem or f"equal, {one.versions} registered version"
        print(f"{number:>9}  end {time.monotonic() - begin:>6.0f}s  {result}", flush=True)
        if not one.problem:
            shutil.rmtree(folder / str(number))
    kills, good = sum(len(one.kills) for one in done), [one for one in done if not one.problem]
    print(f"{sum(len(one.kills) for one in good)} of {kills} kills, {len(good)} of {len(done)} workspaces with the "
          "undisturbed SHA-256")  # fmt: skip
    return 0 if len(good) == len(done) else 1


if __name__ == "__main__":
    sys.exit(main())
