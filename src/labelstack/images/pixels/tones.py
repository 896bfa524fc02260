"""Pixels of any mode and depth to 8-bit BGR, with white where the file's own white is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from labelstack.images.fetching.status import RefusedError

Pixels = NDArray[np.uint8]
_BITS, _PHOTOMETRIC, _BRIGHTEST = 258, 262, 281  # tags of TIFF 6.0
_DARK = 16  # of 256
_BAND = 1_000_000  # pixels


def bits_per_sample(image: Image.Image, data: bytes) -> int:
    """Bits of one sample as the file declares them, for PNG and TIFF; 8 for other formats."""
    if image.format == "PNG":
        return data[24]
    declared = getattr(image, "tag_v2", {}).get(_BITS, 8)
    return int(max(declared)) if isinstance(declared, tuple) else int(declared)


def to_bgr(image: Image.Image, bits: int) -> Pixels:
    """Bring a loaded image to BGR, transparency laid over white; a band of rows at a time, so as to take little memory.

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
    if bits > 8 and image.mode in {"RGB", "RGBA", "LA"} and 0 < _peak(image) < _DARK:
        raise RefusedError("unsupported")
    see_through = image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info
    if see_through and image.mode != "LAB":
        _fit_transparency(image, bits)
    found = np.empty((image.height, image.width, 3), np.uint8)
    for rows, band in _bands(image):
        found[rows] = _rgb(band, see_through)[..., ::-1]
    return found


def _rgb(band: Image.Image, see_through: bool) -> Pixels:
    if band.mode == "LAB":
        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return np.asarray(ImageCms.profileToProfile(band, lab, rgb, outputMode="RGB"))
    if see_through:
        rgba = band.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        band = Image.alpha_composite(white, rgba)
    return np.asarray(band.convert("RGB"))


def _bands(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """The image in bands of its rows; one that is small enough as it is."""
    high = image.height if image.width * image.height <= 2 * _BAND else max(1, _BAND // image.width)
    for top in range(0, image.height, high):
        bottom = min(top + high, image.height)
        whole = bottom - top == image.height
        yield slice(top, bottom), image if whole else image.crop((0, top, image.width, bottom))


def _from_numbers(image: Image.Image, bits: int) -> Pixels:
    extremes = [(part.min(), part.max()) for part in (np.asarray(band) for _, band in _bands(image))]
    low, high = np.min([low for low, _ in extremes]), np.max([high for _, high in extremes])
    tags: Any = getattr(image, "tag_v2", {})
    if image.mode == "F":
        if not (low >= 0 and high <= 255):  # neither is true of NaN
            raise RefusedError("unsupported")
        white = 1.0 if high <= 1 else 255.0
    else:
        if low < 0 or high > 65_535:
            raise RefusedError("unsupported")
        white = float(_white(int(high), bits, tags.get(_BRIGHTEST, 0)))
    transparent = image.info.get("transparency")
    found = np.empty((image.height, image.width, 3), np.uint8)
    for rows, band in _bands(image):
        values = np.asarray(band)
        grey = values.astype(np.float32) * np.float32(255 / white)
        if tags.get(_PHOTOMETRIC) == 0:  # white is zero
            grey = 255 - grey
        if isinstance(transparent, int):
            grey[values == transparent] = 255
        found[rows] = np.rint(grey).astype(np.uint8)[..., None]
    return found


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
