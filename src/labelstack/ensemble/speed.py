"""How large an ensemble is and how fast it labels images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from labelstack.ensemble.ensemble import Ensemble
from labelstack.ensemble.folder import Parts, assemble_folder, network_file

_PASSES = 3


@dataclass(frozen=True)
class Measured:
    """Bytes of what predicts, networks and stackers; images a second in this process, all cores, loading apart."""

    bytes: int
    images_per_second: float


def measured(parts: Parts, images: Sequence[bytes]) -> Measured:
    """Label images, files' bytes, as a served ensemble does; the fastest of three passes after one that warms up."""
    with TemporaryDirectory(prefix="labelstack-") as temporary:
        folder = Path(temporary) / "ensemble"
        folder.mkdir()
        assemble_folder(folder, parts)
        ensemble = Ensemble.load(folder, checked=True)
        spec = ensemble.spec
        files = [folder / network_file(name, fold) for name in spec.needed_models for fold in spec.views[name]]
        for name in spec.needed_stackers:
            files += [file for file in (folder / "stackers" / name).rglob("*") if file.is_file()]
        ensemble.predict(images, progress=False)
        seconds = []
        for _ in range(_PASSES):
            start = time.perf_counter()
            ensemble.predict(images, progress=False)
            seconds.append(time.perf_counter() - start)
        return Measured(sum(file.stat().st_size for file in files), len(images) / min(seconds))
