"""A photo of an outfit: fabric, background, pose, light, things in the way and the camera's faults."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from labelstack.sample.body import Piece
from labelstack.sample.fabric import Field, cloud, fabric, palette_of, random_colour, soft
from labelstack.sample.garments import dress_up
from labelstack.sample.labels import Outfit

Image = NDArray[np.uint8]
Dress = Callable[[Outfit, bool, np.random.Generator], list[Piece]]

_FINE = 4  # fractional bits of cv2's drawing coordinates
_SUPERSAMPLING = 2
_LINES = ("dark", "trim", "metal")  # seams and buttons, which end no part that they lie on


def photograph(outfit: Outfit, size: int, rng: np.random.Generator, dress: Dress = dress_up) -> Image:
    """Draw an outfit once.

    Parameters
    ----------
    dress : gives the pieces that are painted in the outfit's fabric, from back to front

    Returns
    -------
    uint8 [size, size, 3], RGB
    """
    return _photographed(outfit, size, rng, dress, None)


def photograph_with_parts(
    outfit: Outfit, size: int, rng: np.random.Generator, dress: Dress = dress_up
) -> tuple[Image, dict[str, NDArray[np.bool_]]]:
    """As ``photograph``, and the pixels that show what is worn.

    Returns
    -------
    image : uint8 [size, size, 3], RGB
    masks : bool [size, size] of ``garment``, of what else is worn (``top``, ``left shoe``, …) and of the parts that
        pieces name, which lie on others; what something in the way hides is left out
    """
    masks: dict[str, NDArray[np.bool_]] = {}
    return _photographed(outfit, size, rng, dress, masks), masks


def _photographed(
    outfit: Outfit, size: int, rng: np.random.Generator, dress: Dress, masks: dict[str, NDArray[np.bool_]] | None
) -> Image:
    """A photo; ``masks``, where there are to be any, are put in."""
    side = size * _SUPERSAMPLING
    canvas = _background(side, rng)
    worn = bool(rng.random() < 0.55)
    pieces = dress(outfit, worn, rng)
    pose = _pose(pieces, side, rng)
    if rng.random() < 0.7:
        _cast_shadow(canvas, pieces, pose, rng)
    texture, dark = fabric(outfit, _garment_grid(pose, side), rng)
    _paint(canvas, pieces, pose, texture, palette_of(outfit, dark, rng))
    before = canvas.copy()
    if rng.random() < 0.3:
        _put_in_the_way(canvas, rng)
    if masks is not None:
        masks.update(_seen(pieces, pose, np.all(before == canvas, axis=2), size))
    return _expose(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA), rng)


def encode_jpeg(image: Image, quality: int = 88) -> bytes:
    """JPEG bytes of an RGB image; equal pixels give equal bytes."""
    ok, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise RuntimeError("OpenCV refused to encode an image as JPEG")
    return data.tobytes()


def _background(side: int, rng: np.random.Generator) -> Image:
    """Plain, gradient, rough, a room with wall and floor, or clutter."""
    kind = rng.choice(["plain", "gradient", "rough", "room", "clutter"])
    base = random_colour(rng)
    if kind == "plain":
        return np.full((side, side, 3), base, dtype=np.uint8)
    if kind == "gradient":
        ramp = np.linspace(0, 1, side, dtype=np.float32)
        mix = ramp[:, None] * rng.uniform(-1, 1) + ramp[None, :] * rng.uniform(-1, 1)
        return _clip(base + mix[:, :, None] * rng.normal(0, 70, 3))
    if kind == "rough":
        bumps = cloud(side, int(rng.integers(4, 40)), rng)
        return _clip(base + bumps[:, :, None] * rng.uniform(6, 26))
    canvas = np.full((side, side, 3), base, dtype=np.uint8)
    if kind == "room":
        floor = int(side * rng.uniform(0.55, 0.92))
        canvas[floor:] = random_colour(rng)
        boards = int(rng.integers(0, 9))
        for x in np.linspace(0, side, boards + 2)[1:-1]:
            cv2.line(canvas, (int(x), floor), (int(2 * x - side / 2), side), (base * 0.7).tolist(), 1, cv2.LINE_AA)
        canvas[floor : floor + side // 60 + 1] = base * 0.6
        things = int(rng.integers(0, 3))
    else:
        things = int(rng.integers(5, 14))
    for _ in range(things):
        _thing(canvas, rng, rng.uniform(-0.1, 1.1, 2), rng.uniform(0.05, 0.3))
    return canvas


def _thing(canvas: Image, rng: np.random.Generator, centre: NDArray[np.float64], extent: float) -> None:
    """Some object: a disc, a box or a bar."""
    side = len(canvas)
    colour = random_colour(rng).tolist()
    x, y = (centre * side).astype(int).tolist()
    reach = max(int(extent * side), 2)
    kind = rng.integers(3)
    if kind == 0:
        cv2.ellipse(
            canvas, (x, y), (reach, max(int(reach * rng.uniform(0.4, 1)), 1)), rng.uniform(0, 180), 0, 360, colour, -1
        )
    elif kind == 1:
        box = cv2.boxPoints(((x, y), (reach * 2, reach * rng.uniform(0.5, 2)), rng.uniform(0, 90)))
        cv2.fillConvexPoly(canvas, box.astype(np.int32), colour, cv2.LINE_AA)
    else:
        turn = rng.uniform(0, np.pi)
        tip = (int(x + 3 * reach * np.cos(turn)), int(y + 3 * reach * np.sin(turn)))
        cv2.line(canvas, (x, y), tip, colour, max(reach // 4, 1), cv2.LINE_AA)


def _pose(pieces: list[Piece], side: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Affine map [2, 3] from garment coordinates to pixels: scale, turn, shear, mirror and shift."""
    outline = np.concatenate([piece.points for piece in pieces if piece.paint == "fabric"])
    low, high = outline.min(axis=0), outline.max(axis=0)
    extent = max(float((high - low).max()), 1.0)
    scale = side * rng.uniform(0.62, 1.02) / extent
    turn = np.radians(rng.normal(0, 9))
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = linear @ np.array([[rng.uniform(0.88, 1.1), rng.normal(0, 0.07)], [0.0, 1.0]])
    if rng.random() < 0.5:
        linear = linear @ np.diag([-1.0, 1.0])
    centre = side * (0.5 + rng.normal(0, 0.05, 2))
    return np.column_stack([linear, centre - linear @ ((low + high) / 2)])


def _garment_grid(pose: NDArray[np.float64], side: int) -> tuple[Field, Field]:
    """Garment coordinates of every pixel."""
    inverse = np.linalg.inv(pose[:, :2])
    ticks = np.arange(side) - 0.0
    shifted_x, shifted_y = ticks[None, :] - pose[0, 2], ticks[:, None] - pose[1, 2]
    u = inverse[0, 0] * shifted_x + inverse[0, 1] * shifted_y
    v = inverse[1, 0] * shifted_x + inverse[1, 1] * shifted_y
    return u.astype(np.float32), v.astype(np.float32)


def _pixels(piece: Piece, pose: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.round((piece.points @ pose[:, :2].T + pose[:, 2]) * 2**_FINE).astype(np.int32)


def _paint(
    canvas: Image, pieces: list[Piece], pose: NDArray[np.float64], texture: Field, palette: dict[str, list[float]]
) -> None:
    """Paint all pieces in order, onto the canvas."""
    mask = np.zeros(canvas.shape[:2], dtype=np.uint8)
    for piece in pieces:
        if piece.paint != "fabric":
            _stroke(canvas, piece, pose, palette[piece.paint])
            continue
        mask[:] = 0
        _stroke(mask, piece, pose, [255])
        x, y, width, height = cv2.boundingRect(mask)
        box = np.s_[y : y + height, x : x + width]
        share = mask[box][:, :, None] * np.float32(1 / 255)
        canvas[box] = _clip(canvas[box] * (1 - share) + texture[box] * (share * np.float32(piece.tone)))


def _stroke(canvas: Image, piece: Piece, pose: NDArray[np.float64], colour: list[float]) -> None:
    points = _pixels(piece, pose)
    scale = float(np.sqrt(abs(np.linalg.det(pose[:, :2]))))
    if piece.form == "area":
        cv2.fillPoly(canvas, [points], colour, cv2.LINE_AA, _FINE)
    elif piece.form == "line":
        cv2.polylines(canvas, [points], False, colour, max(round(piece.size * scale), 1), cv2.LINE_AA, _FINE)
    else:
        radius = max(round(piece.size * scale * 2**_FINE), 2**_FINE)
        cv2.circle(canvas, points[0].tolist(), radius, colour, -1, cv2.LINE_AA, _FINE)


def _seen(
    pieces: list[Piece], pose: NDArray[np.float64], free: NDArray[np.bool_], size: int
) -> dict[str, NDArray[np.bool_]]:
    """Name of what is worn, and of its parts → the pixels more than half of which show it, bool [size, size].

    Parameters
    ----------
    free : bool [side, side], where nothing is in the way
    """
    names = ["", *dict.fromkeys(name for piece in pieces for name in (_worn(piece), piece.part) if name)]
    worn, parts = np.zeros((2, *free.shape), np.uint8)
    stroke = np.zeros(free.shape, np.uint8)
    for piece in pieces:
        stroke[:] = 0
        _stroke(stroke, piece, pose, [255])
        worn[stroke >= 128] = names.index(_worn(piece))
        if piece.part or piece.paint not in _LINES:
            parts[stroke >= 128] = 0 if piece.paint == "shoe" else names.index(piece.part)
    found = {}
    for number, name in enumerate(names[1:], start=1):
        shown = ((worn == number) | (parts == number)) & free
        mask = shown.reshape(size, _SUPERSAMPLING, size, _SUPERSAMPLING).mean(axis=(1, 3)) > 0.5
        if mask.any():
            found[name] = mask
    return found


def _worn(piece: Piece) -> str:
    """What a stroke shows; nothing for skin and hair."""
    if piece.paint == "shoe":
        return piece.part
    return {"skin": "", "hair": "", "other": "top"}.get(piece.paint, "garment")


def _cast_shadow(canvas: Image, pieces: list[Piece], pose: NDArray[np.float64], rng: np.random.Generator) -> None:
    side = len(canvas)
    mask = np.zeros((side, side), dtype=np.uint8)
    shifted = pose.copy()
    shifted[:, 2] += rng.uniform(-0.06, 0.06, 2) * side
    for piece in pieces:
        if piece.form == "area":
            _stroke(mask, piece, shifted, [255])
    small = cv2.resize(mask, (side // 4, side // 4), interpolation=cv2.INTER_AREA)
    blurred = cv2.resize(cv2.blur(small, (5, 5)), (side, side), interpolation=cv2.INTER_LINEAR)
    canvas[:] = _clip(canvas * (1 - blurred[:, :, None] * np.float32(rng.uniform(0.15, 0.5) / 255)))


def _put_in_the_way(canvas: Image, rng: np.random.Generator) -> None:
    """One or two things in front, mostly near the rim."""
    for _ in range(int(rng.integers(1, 3))):
        turn, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.28, 0.5)
        _thing(canvas, rng, 0.5 + away * np.array([np.cos(turn), np.sin(turn)]), rng.uniform(0.05, 0.14))


def _expose(image: Image, rng: np.random.Generator) -> Image:
    """Light and camera: gain, colour cast, gamma, vignette, a band of shade, blur, noise."""
    size = len(image)
    picture = image.astype(np.float32) / 255
    picture **= np.float32(rng.uniform(0.75, 1.35))
    picture *= (rng.uniform(0.72, 1.18) * (1 + rng.normal(0, 0.06, 3))).astype(np.float32)
    ticks = np.linspace(-1, 1, size, dtype=np.float32)
    if rng.random() < 0.4:
        vignette = 1 - np.float32(rng.uniform(0.1, 0.35)) * (ticks[:, None] ** 2 + ticks[None, :] ** 2) / 2
        picture *= vignette[:, :, None]
    if rng.random() < 0.3:
        turn = rng.uniform(0, 2 * np.pi)
        edge = soft(
            np.float32(np.cos(turn)) * ticks[None, :] + np.float32(np.sin(turn)) * ticks[:, None],
            rng.uniform(-0.6, 0.6),
        )
        picture *= (1 - np.float32(rng.uniform(0.1, 0.4)) * edge)[:, :, None]
    if rng.random() < 0.35:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.1) * size / 96)
    picture += np.float32(rng.uniform(0.0, 0.045)) * rng.standard_normal(picture.shape, dtype=np.float32)
    return _clip(picture * 255)


def _clip(picture: NDArray[np.floating]) -> Image:
    return np.clip(picture, 0, 255).astype(np.uint8)
