"""Pixels of any mode and depth to 8-bit RGB, with white where the file's own white is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from labelstack.images.fetching.status import RefusedError

Pixels = NDArray[np.uint8]
_BITS, _PHOTOMETRIC, _BRIGHTEST = 258, 262, 281  # tags of TIFF 6.0
_DARK = 16  # of 256


def bits_per_sample(image: Image.Image, data: bytes) -> int:
    """Bits of one sample as the file declares them, for PNG and TIFF; 8 for other formats."""
    if image.format == "PNG":
        return data[24]
    declared = getattr(image, "tag_v2", {}).get(_BITS, 8)
    return int(max(declared)) if isinstance(declared, tuple) else int(declared)


def to_rgb(image: Image.Image, bits: int) -> Pixels:
    """Bring a loaded image to RGB, transparency laid over white.

    Whole numbers of more than 8 bits are scaled by the depth that the file declares (12 bits a sample), or by the depth
    of TIFF's MaxSampleValue. Where 16 or 32 bits are declared and nothing is brighter than a sixteenth of white, the
    samples are taken for 12, 10 or 8 bits that somebody put into 16: a photograph that is nearly black all over is the
    less likely of the two. Floats are taken for 0 … 1 if none is above 1, else for 0 … 255.

    Parameters
    ----------
    image : Image, loaded
    bits : int
        See ``bits_per_sample``.

    Returns
    -------
    uint8 [height, width, 3]

    Raises
    ------
    RefusedError
        ``unsupported`` where the values do not tell which of them is white: floats below 0 or above 255 or not finite,
        whole numbers below 0 or above 65,535, and colours of 16 bits that look like 12 or fewer.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _from_numbers(image, bits)
    if image.mode == "LAB":
        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return np.asarray(ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB"))
    if bits > 8 and image.mode in {"RGB", "RGBA", "LA"} and 0 < _peak(image) < _DARK:
        raise RefusedError("unsupported")
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        _fit_transparency(image, bits)
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, rgba)
    return np.asarray(image.convert("RGB"))


def _from_numbers(image: Image.Image, bits: int) -> Pixels:
    values = np.asarray(image)
    low, high = values.min(), values.max()
    tags: Any = getattr(image, "tag_v2", {})
    if image.mode == "F":
        if not (low >= 0 and high <= 255):  # neither is true of NaN
            raise RefusedError("unsupported")
        white = 1.0 if high <= 1 else 255.0
    else:
        if low < 0 or high > 65_535:
            raise RefusedError("unsupported")
        white = float(_white(int(high), bits, tags.get(_BRIGHTEST, 0)))
    grey = values.astype(np.float32) * np.float32(255 / white)
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero
        grey = 255 - grey
    if isinstance(transparent := image.info.get("transparency"), int):
        grey[values == transparent] = 255
    return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)


def _white(peak: int, bits: int, brightest: Any) -> int:
    if 8 < bits < 16:
        return 2**bits - 1
    # TIFF 6.0 gives MaxSampleValue for statistics: it may be the file's brightest sample or the largest possible one.
    said = int(np.max(brightest))
    depths = (8, 10, 12, 14) if 0 < said < 65_535 else (8, 10, 12)
    return next((2**depth - 1 for depth in depths if max(peak, said) < 2**depth), 65_535)


def _peak(image: Image.Image) -> int:
    """The brightest sample, 0 … 255, of the colours."""
    colours = [band for band in image.getbands() if band not in {"A", "a"}]
    return max(image.getchannel(band).getextrema()[1] for band in colours)  # type: ignore[type-var, index, return-value]


def _fit_transparency(image: Image.Image, bits: int) -> None:
    """Bring PNG's transparent colour, which is in the file's depth, to the 8 bits that Pillow compares it with."""
    colour = image.info.get("transparency")
    if image.format != "PNG" or image.mode == "P" or colour is None or bits == 8:
        return
    if bits == 16 and isinstance(colour, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in colour)
    elif bits in {2, 4} and isinstance(colour, int):
        image.info["transparency"] = colour * 255 // (2**bits - 1)
