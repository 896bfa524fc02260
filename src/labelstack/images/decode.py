"""Image bytes of any kind to stored JPEGs, and stored JPEGs to square arrays."""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labelstack.images.status import RefusedError
from labelstack.params import Resize

MAX_PIXELS = 100_000_000
MAX_SIDE = 65_500  # libjpeg's limit
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
_ORIENTATION = 0x0112
BIG_PIXELS = 12_000_000
_BIG = threading.Lock()  # one big image at a time: its pixels may take a gigabyte
_REDUCED = ((16, cv2.IMREAD_REDUCED_COLOR_8), (8, cv2.IMREAD_REDUCED_COLOR_4), (4, cv2.IMREAD_REDUCED_COLOR_2))

# Dimensions are checked here, before any pixel is decoded.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

Pixels = NDArray[np.uint8]


def decode(data: bytes | memoryview, size: int, resize: Resize = "stretch") -> Pixels:
    """Decode a stored JPEG and bring the whole image to a square.

    ``stretch`` changes the sides' ratio; ``letterbox`` keeps it and repeats the border pixels outwards. The JPEG is
    decoded at its full size: libjpeg's reduced sizes would save a third of the time, and cost 1 to 7 dB.

    Returns
    -------
    uint8 [size, size, 3], RGB

    Raises
    ------
    ValueError
        When the bytes are no image.
    """
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if len(data) else None
    if image is None:
        raise ValueError("not an image")
    pixels = np.asarray(image, np.uint8)
    if resize == "stretch":
        return _fit(pixels, size, size)
    height, width = pixels.shape[:2]
    longest = max(height, width)
    inner = _fit(pixels, max(1, round(width * size / longest)), max(1, round(height * size / longest)))
    top, left = (size - inner.shape[0]) // 2, (size - inner.shape[1]) // 2
    bottom, right = size - inner.shape[0] - top, size - inner.shape[1] - left
    return np.asarray(cv2.copyMakeBorder(inner, top, bottom, left, right, cv2.BORDER_REPLICATE), np.uint8)


def to_stored_jpeg(data: bytes, store_size: int, quality: int) -> tuple[bytes, int, int]:
    """Normalise an image to an RGB JPEG whose short side is at most ``store_size`` pixels.

    Transparency is laid over white, EXIF orientation is applied, of an animation the first frame is taken. A baseline
    RGB JPEG that is small enough and upright keeps its bytes.

    Returns
    -------
    jpeg : bytes
    width, height : int

    Raises
    ------
    RefusedError
        ``not_an_image`` for anything that does not decode completely, ``too_large`` beyond 100 million pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise RefusedError("too_large")
            return _normalise(image, data, store_size, quality)
    except Image.DecompressionBombError:
        raise RefusedError("too_large") from None
    except RefusedError:
        raise
    except Exception:  # parsers of hostile input raise nearly everything: OSError, SyntaxError, struct.error, …
        raise RefusedError("not_an_image") from None


def _normalise(image: Image.Image, data: bytes, store_size: int, quality: int) -> tuple[bytes, int, int]:
    width, height, orientation = image.width, image.height, _orientation(image)
    scale = min(1.0, store_size / min(width, height), MAX_SIDE / max(width, height))
    target = max(1, round(width * scale)), max(1, round(height * scale))
    keep = (
        scale == 1.0
        and orientation == 1
        and image.format == "JPEG"
        and image.mode == "RGB"
        and not image.info.get("progressive")
        and len(data) <= 3 * width * height + 65_536  # no megabytes of metadata
    )
    with _BIG if width * height > BIG_PIXELS else contextlib.nullcontext():
        pixels = _quick_bgr(data, image, min(width / target[0], height / target[1]))
        if pixels is None:
            pixels = np.ascontiguousarray(_to_rgb(image)[..., ::-1])
        if keep:
            return data, width, height
        pixels = _upright(_resize(pixels, *target), orientation)
    written, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not written:
        raise RefusedError("not_an_image")
    return encoded.tobytes(), pixels.shape[1], pixels.shape[0]


def _quick_bgr(data: bytes, image: Image.Image, factor: float) -> Pixels | None:
    """A whole RGB JPEG through OpenCV, at 1/2, 1/4 or 1/8 when it is to shrink by ``factor`` ≥ 4, 8, 16, else None.

    OpenCV reads JPEGs faster than Pillow and to the same pixels, but takes truncated ones, so their end is looked for.
    """
    if image.format != "JPEG" or image.mode != "RGB" or not _has_end(data):
        return None
    flag = next((flag for least, flag in _REDUCED if factor >= least), cv2.IMREAD_COLOR)
    found = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if found is None else np.asarray(found, np.uint8)


def _has_end(data: bytes) -> bool:
    """Whether an end-of-image marker follows the first scan (ITU T.81, B.1); within a scan it cannot occur."""
    place = 2
    while data[place : place + 1] == b"\xff" and place + 4 <= len(data):
        if data[place + 1] == 0xDA:
            return data.find(b"\xff\xd9", place) >= 0
        place += 1 if data[place + 1] == 0xFF else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return False


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken metadata does not make a broken image
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _to_rgb(image: Image.Image) -> Pixels:
    image.load()
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.float32) / 257
        return _grey(grey)
    if image.mode in {"I", "F"}:
        grey = np.asarray(image).astype(np.float32)
        return _grey(grey / 257 if grey.max() > 255 else grey)
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, rgba)
    return np.asarray(image.convert("RGB"))


def _grey(values: NDArray[np.floating[Any]]) -> Pixels:
    grey = np.clip(np.rint(np.nan_to_num(values)), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _fit(image: Pixels, width: int, height: int) -> Pixels:
    """Resize for a network: bilinear where fewer than three pixels become one, else as ``_resize``.

    Against the original photographs, resampled with Lanczos's filter, bilinear is as close there as area averages
    (37.3 and 37.1 dB from 256 × 341 to 224 px, 39.2 and 39.1 dB from 331 × 441), and takes a third of the time.
    """
    few = image.shape[0] * image.shape[1] < 3 * width * height
    if few and width <= image.shape[1] and height <= image.shape[0]:
        return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return _resize(image, width, height)


def _resize(image: Pixels, width: int, height: int) -> Pixels:
    """Shrink by area averages, then enlarge what is still too small, linearly; cv2 alone does not mix the two."""
    smaller = min(width, image.shape[1]), min(height, image.shape[0])
    if smaller != (image.shape[1], image.shape[0]):
        image = np.asarray(cv2.resize(image, smaller, interpolation=cv2.INTER_AREA), np.uint8)
    if smaller != (width, height):
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return image


def _upright(image: Pixels, orientation: int) -> Pixels:
    """Undo the EXIF orientation (Exif 2.32, tag 0x0112)."""
    if orientation == 1:
        return image
    turned = {
        2: image[:, ::-1],
        3: image[::-1, ::-1],
        4: image[::-1],
        5: image.transpose(1, 0, 2),
        6: np.rot90(image, -1),
        7: np.rot90(image, 2).transpose(1, 0, 2),
        8: np.rot90(image, 1),
    }
    return np.ascontiguousarray(turned.get(orientation, image))
