"""Height and width of photos as their files' headers say; no pixel is decoded."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image

_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # Exif 2.32: these change the sides


def photo_size(path: Path) -> tuple[int, int] | None:
    """Height and width of an upright photo in pixels; ``None`` where the file can't be read as one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # nothing is decoded
            with Image.open(path, formats=_FORMATS) as image:
                width, height = image.size
                turned = "exif" in image.info and image.getexif().get(_ORIENTATION) in _TURNED
    except Exception:  # parsers of hostile input raise nearly everything
        return None
    return (width, height) if turned else (height, width)
