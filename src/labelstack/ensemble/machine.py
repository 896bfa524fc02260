"""What decides about the last bits of a prediction: processor, instruction set and package versions."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from pathlib import Path

import labelstack
from labelstack.compute.worker import versions

_CPU, _GPUS = Path("/proc/cpuinfo"), Path("/proc/driver/nvidia/gpus")


def machine() -> dict[str, str]:
    """This machine in words: ``cpu``, ``architecture``, ``flags`` (digest of the instruction set), ``gpu``, versions.

    ``code`` is the digest of labelstack's source.
    """
    here = {"cpu": _cpu(), "architecture": platform.machine(), "flags": _flags(), "gpu": _gpu()}
    return {**here, **versions(), "code": source_digest(Path(labelstack.__file__).parent)}


def source_digest(folder: Path) -> str:
    """Digest (16 hex digits) of names and bytes of all files in a folder, but for what Python compiles them to."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc":
            digest.update(f"{file.relative_to(folder).as_posix()}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def differences(recorded: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """What differs between two machines, in words; ``code`` is left out, as a change of it should not change a bit."""
    keys = sorted({*recorded, *here} - {"code"}, key=lambda key: (key not in ("cpu", "architecture"), key))
    return [
        f"{key} {recorded.get(key, 'unknown')!r} then, {here.get(key, 'unknown')!r} here"
        for key in keys
        if recorded.get(key) != here.get(key)
    ]


def _cpu() -> str:
    return _of_cpu("model name") or platform.processor() or "unknown"


def _flags() -> str:
    flags = _of_cpu("flags") or _of_cpu("Features")  # x86 and ARM
    return hashlib.sha256(" ".join(sorted(flags.split())).encode()).hexdigest()[:16] if flags else "unknown"


def _of_cpu(key: str) -> str:
    """The first value of a key in Linux' list of processors; empty where there is no such list."""
    if not _CPU.is_file():
        return ""
    for line in _CPU.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _gpu() -> str:
    """Models of the NVIDIA GPUs, or ``none``."""
    found = []
    for file in sorted(_GPUS.glob("*/information")):
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        found += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return ", ".join(found) or "none"
