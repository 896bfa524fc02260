"""Push a finished workspace to an S3 server over a line that fails, pull it into a fresh clone, and compare.

    python benchmarks/push_with_failures.py WORKSPACE [--share 0.05] [--seed 0] [--folder FOLDER]

WORKSPACE is a clone in which `dvc repro` has ended; it is copied (without .venv) and not changed. The S3 server is moto
on the loopback address; a proxy before it fails the given share of all requests: 500, 503 SlowDown, connections reset
before the work, in the middle of a body, and after the work but before the answer. The remote is set by `labelstack
remote`, one `dvc push` and one `dvc pull` are made. The embedded default takes two to five minutes and 400 MB in a
temporary folder that is removed at the end. The exit code is 1 unless all is equal and nothing is left to do.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from s3_server import FAULTS, Proxy, credentials_in_environment, objects, s3_server  # noqa: E402
from sharing import cached, commit, fresh_clone, outputs, ran_nothing, run  # noqa: E402

PREFIX = "labelstack"
LEFT_OUT = shutil.ignore_patterns(".venv", "config.local", "__pycache__", ".*_cache", ".hypothesis", ".coverage*")


class Steps:
    """Commands with their seconds, and the requests and failures at the proxy meanwhile."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.rows: list[tuple[str, float, int, int]] = []

    def __call__(self, folder: Path, *command: str) -> str:
        requests, failed, start = len(self.proxy.requests), self.proxy.failed(), time.monotonic()
        output = run(folder, *command, timeout=3600).stdout
        row = (" ".join(command[:2]), time.monotonic() - start, len(self.proxy.requests) - requests)
        self.rows.append((*row, self.proxy.failed() - failed))
        print(f"  {row[0]}: {row[1]:.1f} s", file=sys.stderr, flush=True)
        return output

    def show(self) -> None:
        print(f"{'command':20} {'seconds':>8} {'requests':>9} {'failed':>7}")
        for name, seconds, requests, failed in self.rows:
            print(f"{name:20} {seconds:>8.1f} {requests:>9,} {failed:>7,}")


def measure(workspace: Path, folder: Path, share: float, seed: int) -> bool:
    origin = folder / "origin"
    shutil.copytree(workspace, origin, ignore=LEFT_OUT, symlinks=True)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line for every request
    with s3_server() as server, Proxy(server, share=share, seed=seed) as proxy:
        step = Steps(proxy)
        step(origin, "labelstack", "remote", f"s3://bucket/{PREFIX}", "--endpoint-url", proxy.url)
        commit(origin)
        step(origin, "dvc", "push")
        there = objects(server, prefix=PREFIX)
        clone = fresh_clone(origin, folder / "clone")
        step(clone, "dvc", "pull")
        idle = ran_nothing(step(clone, "dvc", "repro"))
        faults = Counter(request.fault for request in proxy.requests)
    needed, left, right = cached(origin), outputs(origin), outputs(clone)
    pushed = {key.removeprefix(f"{PREFIX}/") for key in there}
    # a cache may hold earlier runs' objects too; what the clone has was needed
    complete = cached(clone) <= pushed <= needed
    step.show()
    print(f"failures by kind     {', '.join(f'{kind} {faults[kind]}' for kind in FAULTS)}")
    print(f"objects pushed       {len(pushed):,} of {sum(map(len, there.values())) / 1e6:,.1f} MB")
    print(f"files compared       {len(left):,}, SHA-256 {'equal' if left == right else 'DIFFERENT'}")
    print(f"dvc repro afterwards {'nothing to do' if idle else 'RAN STAGES'}")
    return left == right and idle and complete


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--share", type=float, default=0.05, help="of requests that fail")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    args = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="push.", dir=args.folder) as name, pytest.MonkeyPatch.context() as patch:
        credentials_in_environment(patch, Path(name))
        sys.exit(0 if measure(args.workspace.resolve(), Path(name), args.share, args.seed) else 1)


if __name__ == "__main__":
    main()
