"""TensorFlow is loaded without a word, and standard error is there again afterwards."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_QUIET = """
import os, sys
before = os.fstat(2)
{load}
assert "tensorflow" in sys.modules
after = os.fstat(2)
assert (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino), "standard error is another file"
os.write(2, b"raw words\\n")
print("later words", file=sys.stderr)
"""
_BROKEN = """
import os, sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            print("chatter", file=sys.stderr)
            os.write(2, b"more chatter\\n")
            raise ImportError("no such library here")
sys.meta_path.insert(0, Broken())
try:
    import labelstack.networks
except ImportError as error:
    print("told:", error, file=sys.stderr)
"""


def stderr_of(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False, timeout=1500
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize(
    "load",
    ["import labelstack.networks", "from labelstack.support.quiet import load_tensorflow as f; f(); f()"],
    ids=["networks", "twice"],
)
def test_loading_says_nothing_and_gives_standard_error_back(load: str) -> None:
    assert stderr_of(_QUIET.format(load=load)) == "raw words\nlater words\n"


def test_an_import_that_fails_is_told_after_all() -> None:
    assert stderr_of(_BROKEN) == "told: no such library here\n"


@pytest.mark.parametrize("before", ["enable", "disable"])
def test_the_garbage_collector_is_as_before_and_passes_over_what_was_imported(before: str) -> None:
    code = (
        f"import gc; gc.{before}(); from labelstack.support.quiet import load_tensorflow; load_tensorflow()\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 100_000)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == [str(before == "enable"), "True"]
