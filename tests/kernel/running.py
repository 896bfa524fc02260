"""A script run where nothing is seen but its packages: no environment, no network, neither labelstack nor MLflow."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from labelstack.kernel.contents import Contents

# Imported first by the script. It hides labelstack's folder and all packages that a kernel is not said to need,
# ends the process without a word when so many parts are written, has clocks run faster, and refuses connections where
# the system gives nobody a network namespace.
_SITE = """
import os, sys, time
HIDDEN = frozenset({hidden})
sys.path[:] = [place for place in sys.path if not place.endswith("/src")]

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"hidden: {{name}}", name=name)

sys.meta_path.insert(0, Hide())
left, replace = int(os.environ.get("KILL_AFTER", "0")), os.replace

def counted(source, target):
    global left
    replace(source, target)
    if "/parts/" in str(target):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)

os.replace = counted
if faster := float(os.environ.get("FASTER", "0")):
    monotonic = time.monotonic
    time.monotonic = lambda: faster * monotonic()
if os.environ["NETWORK"] == "closed":
    def closed(event, _):
        if event in ("socket.connect", "socket.getaddrinfo", "socket.bind"):
            raise OSError(101, "Network is unreachable")

    sys.addaudithook(closed)
"""
# Of labelstack's requirements what TensorFlow and Keras import themselves.
_THEIR_OWN = {"rich", "certifi", "idna"}
_IMPORTED_AS = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "psycopg2-binary": "psycopg2",
    "scikit-learn": "sklearn",
    "tensorflow-cpu": "tensorflow",
    "xgboost-cpu": "xgboost",
    "ruamel.yaml": "ruamel",
    "dvc-s3": "dvc_s3",
}


def contents_of(script: Path) -> Contents:
    """What a script says of its ensemble."""
    found = re.search(r"CONTENTS = r'''\n(.*?)\n'''", script.read_text(), re.DOTALL)
    assert found
    return Contents.from_json(found[1])


def hidden(packages: Mapping[str, str]) -> set[str]:
    """What labelstack imports and a kernel is not said to."""
    lines = (Path(__file__).parents[2] / "requirements.in").read_text().splitlines()
    names = [re.split(r"[\[<>=!~;\s]", line)[0] for line in lines if line and not line.startswith("#")]
    return {_IMPORTED_AS.get(name, name) for name in names} - {*packages} - _THEIR_OWN


def run_alone(
    script: Path, site: Path, *options: str, kill_after: int = 0, faster: float = 0
) -> subprocess.CompletedProcess[str]:
    """Run a script in its folder; ``site`` is a folder for what Python imports first."""
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(_SITE.format(hidden=sorted(hidden(contents_of(script).packages))))
    bare = ["env", "-i", f"PYTHONPATH={site}", f"KILL_AFTER={kill_after}", f"FASTER={faster}"]
    apart = _network_namespace()
    bare.append(f"NETWORK={'none' if apart else 'closed'}")
    command = [*apart, *bare, sys.executable, script.name, *options]
    return subprocess.run(command, cwd=script.parent, capture_output=True, text=True, timeout=900)


def _network_namespace() -> list[str]:
    """What gives a command a network of its own without anybody in it; nothing where the system gives nobody one."""
    apart = ["unshare", "-rn"]
    return apart if subprocess.run([*apart, "true"], capture_output=True).returncode == 0 else []
