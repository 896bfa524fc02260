"""What `weights` of a network may say."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from labelstack.params.rules import Line, folder
from labelstack.support.hub import SCHEME, hub_file

# PyTorch's and MXNet's own files. The first are pickles: to read them is to run what is in them.
_OF_OTHERS = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pth.tar", ".params")
CONVERT = (
    "files of PyTorch and MXNet are not read, because they may hold programs: make a .safetensors of it where you have "
    "the library, as docs/networks.md shows, or take the .safetensors that is published beside it"
)


def start_weights(value: str) -> str:
    """``none``, ``imagenet``, a path, or a file on the Hugging Face Hub."""
    if value.lower().split("@")[0].endswith(_OF_OTHERS):
        raise ValueError(f"{value!r}: {CONVERT}")
    if not value.startswith(SCHEME):
        return folder(value)
    if hub_file(value) is None:
        raise ValueError(
            "must be hf://owner/repository, hf://owner/repository/file.safetensors, perhaps with @revision at the end, "
            f"not {value!r}"
        )
    return value


StartWeights = Annotated[Line, AfterValidator(start_weights)]
