"""In which numbers predictions lie on disk."""

from __future__ import annotations

from typing import Literal

Dtype = Literal["float32", "float16"]
