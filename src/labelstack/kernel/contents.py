"""What a kernel's script says of its ensemble; what weighs more lies in the folder of weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

ORDER = "order.npz"  # image_id int64 [n], shard int64 [n]: the batches in which test images were predicted
# What a kernel imports, as `import` and as `pip install` call it; a stacker may need more.
PACKAGES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "pydantic": "pydantic",
    "tensorflow": "tensorflow",
    "keras": "keras",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "simplejpeg": "simplejpeg",
    "threadpoolctl": "threadpoolctl",
    "tqdm": "tqdm",
}


class WeightFile(NamedTuple):
    """Size in bytes and SHA-256 of a file of the weights."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Contents:
    """What a kernel knows beside its source.

    Attributes
    ----------
    title : the ensemble, as people call it
    source : SHA-256 of the packed source
    files : name in an ensemble's folder → the file, for all that prediction needs
    unseen : places of the labels that an image without a prediction gets
    submission : ``header``, ``sha256`` and, where images are called by texts, ``separator`` and perhaps ``labels``: see
        ``record.Record``
    shard_rows : images that are normalised, and predicted by a network, between two saves
    packages : import name → name at a package index
    machine : where the submission was made, see ``ensemble.machine``
    """

    title: str
    source: str
    files: Mapping[str, WeightFile]
    unseen: Sequence[int]
    submission: Mapping[str, object]
    shard_rows: int
    packages: Mapping[str, str]
    machine: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Indented JSON in ASCII, with neither quotes nor backslashes that a raw Python text could not hold."""
        return json.dumps(asdict(self), indent=1).replace("'", "\\u0027")

    @classmethod
    def from_json(cls, text: str) -> Contents:
        """What ``to_json`` gave."""
        content = json.loads(text)
        content["files"] = {name: WeightFile(*entry) for name, entry in content["files"].items()}
        return cls(**content)
