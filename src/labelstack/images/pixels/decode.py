"""Image bytes of any kind to stored JPEGs, and stored JPEGs to square arrays."""

from __future__ import annotations

import contextlib
import io
import threading
import warnings

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labelstack.images.fetching.status import RefusedError
from labelstack.images.pixels import budget, tones, whole
from labelstack.images.pixels.budget import USUAL, Budget
from labelstack.images.pixels.cut import cut
from labelstack.images.pixels.freed import give_back
from labelstack.images.pixels.region_mask import joined, masked, part_seen, split
from labelstack.images.pixels.whole import MAX_PIXELS
from labelstack.params.images import Damaged
from labelstack.params.models import Resize
from labelstack.params.region_view import PLAIN, RegionView
from labelstack.support.box import Box

MAX_SIDE = 65_500  # libjpeg's limit
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
_ORIENTATION = 0x0112
BIG_PIXELS = 12_000_000
_BIG = threading.Lock()  # one big image at a time: its pixels may take a gigabyte
_REDUCED = ((16, 8), (8, 4), (4, 2))  # least factor to shrink by, and by how much the JPEG decoder does it

# Dimensions are checked here, before any pixel is decoded.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

Pixels = NDArray[np.uint8]


def decode(
    data: bytes | memoryview,
    size: int,
    resize: Resize = "stretch",
    box: Box | None = None,
    view: RegionView = PLAIN,
) -> Pixels:
    """Decode a stored JPEG and bring the whole image, or the part in a box, to a square.

    ``stretch`` changes the sides' ratio; ``letterbox`` keeps it and repeats the border pixels outwards. The JPEG is
    decoded at its full size: libjpeg's reduced sizes would save a third of the time, and cost 1 to 7 dB.

    Returns
    -------
    uint8 [size, size, view.channels], RGB and, of a region, its mask where ``view`` wants it

    Raises
    ------
    ValueError
        When the bytes are no image.
    """
    return to_square(read_seen(data, box, view), size, resize)


def read_pixels(data: bytes | memoryview) -> Pixels:
    """A stored JPEG's pixels, uint8 [height, width, 3] RGB; raise ``ValueError`` when the bytes are no image."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if len(data) else None
    if image is None:
        raise ValueError("not an image")
    return np.asarray(image, np.uint8)


def read_seen(data: bytes | memoryview, box: Box | None = None, view: RegionView = PLAIN) -> Pixels:
    """What a network sees of a stored JPEG, uint8 [height, width, view.channels]; raise as ``decode``."""
    pixels, box = masked(read_pixels(data), data, view), part_seen(data, box, view)
    return pixels if box is None else cut(pixels, box)


def to_square(pixels: Pixels, size: int, resize: Resize = "stretch") -> Pixels:
    """An image uint8 [height, width, 3 or 4] as a square of this side; ``decode`` says how."""
    return fit(pixels, size, size) if resize == "stretch" else _letterboxed(pixels, size)


def decode_to_move(
    data: bytes | memoryview,
    size: int,
    resize: Resize = "stretch",
    box: Box | None = None,
    zoom: float = 1,
    view: RegionView = PLAIN,
) -> Pixels:
    """As ``decode``, but at the stored size where bilinear interpolation alone may bring the image to the square.

    ``zoom`` ≤ 1 says how much smaller it may become on the way, see ``fits_directly``.

    Returns
    -------
    uint8 [h, w, view.channels], RGB and mask
    """
    pixels = read_seen(data, box, view)
    if resize == "letterbox":
        return _letterboxed(pixels, size)
    return pixels if fits_directly(pixels.shape[0], pixels.shape[1], size, zoom) else fit(pixels, size, size)


def fits_directly(height: int, width: int, size: int, zoom: float = 1) -> bool:
    """Whether bilinear interpolation skips few pixels of an image that becomes a square of ``size * zoom``."""
    inner = size * zoom
    return height * width < 3 * inner * inner and max(height, width) < 3 * inner


def letterbox(height: int, width: int, size: int) -> tuple[int, int, int, int]:
    """Where an image lies in its square: height and width that it has there, its top and left, in pixels."""
    longest = max(height, width)
    inner = max(1, round(height * size / longest)), max(1, round(width * size / longest))
    return (*inner, (size - inner[0]) // 2, (size - inner[1]) // 2)


def _letterboxed(pixels: Pixels, size: int) -> Pixels:
    height, width, top, left = letterbox(pixels.shape[0], pixels.shape[1], size)
    inner = fit(pixels, width, height)
    bottom, right = size - height - top, size - width - left
    return np.asarray(cv2.copyMakeBorder(inner, top, bottom, left, right, cv2.BORDER_REPLICATE), np.uint8)


def to_stored_jpeg(
    data: bytes, store_size: int, quality: int, damaged: Damaged = "refuse", allowed: Budget = USUAL
) -> tuple[bytes, int, int]:
    """Normalise an image to an RGB JPEG whose short side is at most ``store_size`` pixels.

    Transparency is laid over white, the orientation is applied, of an animation the first frame is taken, white is
    found as ``tones`` says. A baseline RGB JPEG that is small enough and upright keeps its bytes. With ``damaged``
    ``keep``, what can be decoded of a damaged image is stored, and the rest of it is grey or black.

    Returns
    -------
    jpeg : bytes
    width, height : int

    Raises
    ------
    RefusedError
        ``not_an_image``; ``damaged`` for an image that does not decode completely or without a warning, see ``whole``;
        ``unsupported`` when its white is not known; ``too_large`` beyond 100 million pixels or what is ``allowed``.
    """
    outcome = _outcome(data, store_size, quality, damaged, allowed)
    if isinstance(outcome, str):
        raise RefusedError(outcome)
    return outcome


def _outcome(
    data: bytes, store_size: int, quality: int, damaged: Damaged, allowed: Budget
) -> tuple[bytes, int, int] | str:
    """What ``to_stored_jpeg`` returns, or the status of its refusal; an error would hold on to the pixels."""
    sound = True
    try:
        budget.check_file(data)
        data, sound = whole.mended(data)
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except RefusedError as refusal:
        return refusal.status
    except Image.DecompressionBombError:
        return "too_large"
    except Exception:  # parsers of hostile input raise nearly everything: OSError, SyntaxError, struct.error, …
        return "not_an_image" if sound else "damaged"
    big = image.width * image.height > BIG_PIXELS
    with _BIG if big else contextlib.nullcontext():
        found = _decoded(image, data, store_size, quality, damaged, allowed, sound=sound)
        image.close()
        if big:  # before the next one begins
            give_back()
    return found


def _decoded(
    image: Image.Image, data: bytes, store_size: int, quality: int, damaged: Damaged, allowed: Budget, *, sound: bool
) -> tuple[bytes, int, int] | str:
    try:
        if image.width * image.height > MAX_PIXELS:
            return "too_large"
        budget.check_image(image, data, allowed)
        if not sound and damaged == "refuse":
            return "damaged"
        return _normalise(image, data, store_size, quality, strict=damaged == "refuse")
    except Image.DecompressionBombError:
        return "too_large"
    except RefusedError as refusal:
        return refusal.status
    except Exception:
        return "damaged"


def _normalise(
    image: Image.Image, data: bytes, store_size: int, quality: int, *, strict: bool
) -> tuple[bytes, int, int]:
    width, height = image.width, image.height
    scale = min(1.0, store_size / min(width, height), MAX_SIDE / max(width, height))
    target = max(1, round(width * scale)), max(1, round(height * scale))
    pixels = _jpeg_bgr(data, image, min(width / target[0], height / target[1]), strict)
    if pixels is None:
        _load(image, data, strict)
        pixels = tones.to_bgr(image, tones.bits_per_sample(image, data))
    orientation = _orientation(image)
    as_it_is = (
        scale == 1.0
        and orientation == 1
        and image.format == "JPEG"
        and image.mode == "RGB"
        and not image.info.get("progressive")
        and len(data) <= 3 * width * height + 65_536  # no megabytes of metadata
        and (strict or (whole.jpeg_is_whole(data) and _is_read_again(data)))
    )
    if as_it_is:
        return data, width, height
    pixels = _upright(_resize(pixels, *target), orientation)
    written, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not written:
        raise RefusedError("damaged")
    return encoded.tobytes(), pixels.shape[1], pixels.shape[0]


def _is_read_again(data: bytes) -> bool:
    """Whether networks can read these bytes: Pillow, or a decoder that is told to overlook faults, may read more."""
    try:
        read_pixels(data)
    except ValueError:
        return False
    return True


def _jpeg_bgr(data: bytes, image: Image.Image, factor: float, strict: bool) -> Pixels | None:
    """A JPEG's pixels, at 1/2, 1/4 or 1/8 when it is to shrink by ``factor`` ≥ 4, 8, 16; None if Pillow has to read it.

    Only RGB in a file of its own is read at a reduced size: as it is with any other, so its stored bytes stay.
    """
    if image.format not in {"JPEG", "MPO"}:
        return None
    if image.mode not in {"RGB", "L"}:
        if strict and not whole.jpeg_is_whole(data):
            raise RefusedError("damaged")
        return None
    plain = image.format == "JPEG" and image.mode == "RGB"
    part = next((part for least, part in _REDUCED if factor >= least), 1) if plain else 1
    return whole.jpeg_bgr(data, -(-image.width // part), -(-image.height // part), strict=strict)


def _load(image: Image.Image, data: bytes, strict: bool) -> None:
    """Decode with Pillow; a decoder's fault is told once and then forgotten, so nothing else may load the image."""
    try:
        image.load()
        sound = not strict or whole.is_whole(image, data)
    except Exception:
        if strict:
            raise
        image.tile = []  # type: ignore[attr-defined]  # what has been decoded up to the fault is there
        image.load()
        return
    if not sound:
        raise RefusedError("damaged")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation that is still to be undone; Pillow turns TIFFs itself while it loads them."""
    if image.format == "TIFF":
        return 1
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken metadata does not make a broken image
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def fit(image: Pixels, width: int, height: int) -> Pixels:
    """Resize for a network: bilinear where fewer than three pixels become one, else as ``_resize``.

    Against the original photographs, resampled with Lanczos's filter, bilinear is as close there as area averages
    (37.3 and 37.1 dB from 256 × 341 to 224 px, 39.2 and 39.1 dB from 331 × 441), and takes a third of the time.
    """
    if (height, width) == image.shape[:2]:
        return image
    if image.ndim == 3 and image.shape[2] == 4:
        return joined(*(fit(part, width, height) for part in split(image)))
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
