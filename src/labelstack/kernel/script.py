"""The text of a kernel: a header for people, what it knows, and labelstack's own source."""

from __future__ import annotations

import base64
import hashlib
import io
import textwrap
import zipfile
from collections.abc import Sequence

import labelstack
from labelstack.kernel.alone import INPUTS
from labelstack.kernel.contents import Contents
from labelstack.params.backbone_names import OWN
from labelstack.params.stackers import STACKERS, section_of
from labelstack.support.closure import Sources, sources

ROOT = "labelstack.kernel.alone"
# What the work of a kernel names and never runs: how data sets are read, where tasks run, what stages do.
_APART = ("labelstack.formats", "labelstack.networks.losses", "labelstack.stages")
_OF_APART = ("labelstack.formats.submission", "labelstack.formats.text_submission", "labelstack.formats.text_id")
_WIDTH = 116

_TEMPLATE = '''#!/usr/bin/env python3
"""@title@: a submission from a folder of test images, in one file.

Written by `labelstack kernel` (labelstack @version@). It needs neither labelstack nor MLflow nor a network.

    python @name@ --input FOLDER --test FOLDER --out submission.csv

--input   where the weights lie, in whatever folders: they are known by their SHA-256. Upload the folder that was
          written beside this file as a data set. Default: @inputs@; repeatable.
--test    the folder of the test images.
--sample  sample_submission.csv, where its rows are other images than those of the registered submission.
--out     the file to write; default: submission.csv.
--hours   a limit of time: test-time views and then models are left out rather than miss it, and what is is told.
--work    finished parts, which a run that was killed goes on from; removed at the end. Default: OUT.work.

Where nothing can be typed, put these words into ARGUMENTS below.

Installed must be: @packages@.

Weights (@megabytes@ MB):
@weights@
"""

import base64
import hashlib
import io
import sys
import tempfile
import zipfile

ARGUMENTS = []  # such as ["--test", "/kaggle/input/competition/test"]

CONTENTS = r\'\'\'
@contents@
\'\'\'

# Files of labelstack, as they are: a zip file in base 85.
SOURCE = """
@source@
"""


def main():
    packed = base64.b85decode("".join(SOURCE.split()))
    if f'"{hashlib.sha256(packed).hexdigest()}"' not in CONTENTS:
        sys.exit("kernel: this file was changed or cut off: its source is not the one that was packed")
    with tempfile.TemporaryDirectory(prefix="labelstack-") as folder:
        zipfile.ZipFile(io.BytesIO(packed)).extractall(folder)
        sys.path.insert(0, folder)
        sys.dont_write_bytecode = True
        from labelstack.kernel.alone import main as work
        from labelstack.kernel.contents import Contents

        return work(Contents.from_json(CONTENTS), sys.argv[1:] or ARGUMENTS)


if __name__ == "__main__":
    sys.exit(main())
'''


def modules(source: Sources | None = None) -> list[str]:
    """Modules of labelstack that a kernel carries."""
    source = source or sources()
    named = [backbone.module for backbone in OWN.values()]
    named += [section_of(kind).stacker.partition(":")[0] for kind in STACKERS.own]
    found = source.closure([ROOT, *_OF_APART, *named], _APART)
    parents = {name.rpartition(".")[0] for name in found}
    while parents - {""} - set(found):
        found += sorted(parents - {""} - set(found))
        parents = {name.rpartition(".")[0] for name in found}
    return sorted(found)


def packed_source(source: Sources | None = None) -> bytes:
    """A zip file of these modules, without dates: the same source gives the same bytes."""
    source, whole = source or sources(), io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for module in modules(source):
            file = source.modules[module]
            entry = zipfile.ZipInfo(file.relative_to(source.package.parent).as_posix())
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes(), compresslevel=9)
    return whole.getvalue()


def script(name: str, contents: Contents, packed: bytes) -> str:
    """The whole text of a kernel.

    Parameters
    ----------
    name : of its file
    contents : whose ``source`` is the SHA-256 of ``packed``
    packed : from ``packed_source``
    """
    assert contents.source == hashlib.sha256(packed).hexdigest()
    weights = [f"    {file.sha256[:12]}  {file.size:>13,}  {_plain(key)}" for key, file in contents.files.items()]
    said = {
        "title": _plain(contents.title),
        "version": labelstack.__version__,
        "name": _plain(name),
        "inputs": ", ".join(INPUTS),
        "packages": _wrapped(sorted(contents.packages.values())),
        "megabytes": f"{sum(file.size for file in contents.files.values()) / 1e6:,.1f}",
        "weights": "\n".join(weights),
        "contents": contents.to_json(),
        "source": "\n".join(textwrap.wrap(base64.b85encode(packed).decode("ascii"), _WIDTH)),
    }
    parts = _TEMPLATE.split("@")
    return "".join(said[part] if number % 2 else part for number, part in enumerate(parts))


def _wrapped(words: Sequence[str]) -> str:
    return textwrap.fill(", ".join(words), _WIDTH, break_long_words=False, break_on_hyphens=False)


def _plain(text: str) -> str:
    """A text as a docstring can hold it."""
    return text.encode("ascii", "backslashreplace").decode().replace("\\", "/").replace('"', "'")
