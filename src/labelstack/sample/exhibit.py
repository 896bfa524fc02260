"""A museum's photo of one object: its form, what is painted on it, what it is made of, on the ground of its culture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

_FINE = 4  # fractional bits of cv2's drawing coordinates
_SUPERSAMPLING = 2
# Ground and frame of each culture, RGB; near-synonyms of one pair are near here too.
GROUNDS: dict[str, tuple[Colour, Colour]] = {
    "egyptian": ((222, 190, 120), (60, 90, 140)),
    "greek": ((196, 104, 60), (30, 28, 26)),
    "hellenistic": ((190, 112, 74), (46, 40, 36)),
    "chinese": ((168, 40, 44), (220, 180, 70)),
    "japanese": ((226, 222, 208), (40, 56, 110)),
    "edo": ((218, 214, 204), (54, 64, 104)),
    "persian": ((46, 120, 130), (230, 210, 150)),
    "french": ((206, 196, 214), (120, 80, 130)),
    "american": ((110, 128, 92), (70, 50, 36)),
}
MATERIALS: dict[str, Colour] = {
    "gold": (232, 190, 60),
    "silver": (200, 204, 210),
    "pewter": (176, 180, 186),
    "bronze": (140, 96, 52),
    "ivory": (244, 238, 220),
}
# Outlines of the right half, from top to bottom: distance from the axis and height, both in −1 … 1.
_OUTLINES: dict[str, list[tuple[float, float]]] = {
    "vases": [(0.28, -0.9), (0.18, -0.62), (0.56, -0.15), (0.5, 0.35), (0.22, 0.8), (0.3, 0.9)],
    "vessels": [(0.36, -0.8), (0.27, -0.58), (0.62, -0.12), (0.57, 0.36), (0.28, 0.76), (0.34, 0.84)],
    "bowls": [(0.85, -0.2), (0.8, 0.1), (0.5, 0.42), (0.25, 0.48), (0.3, 0.56)],
    "masks": [(0.3, -0.75), (0.58, -0.45), (0.6, 0.1), (0.35, 0.6), (0.08, 0.78)],
    "swords": [(0.02, -0.95), (0.08, -0.8), (0.08, 0.42), (0.34, 0.44), (0.34, 0.52), (0.06, 0.54), (0.07, 0.92)],
    "daggers": [(0.02, -0.68), (0.1, -0.52), (0.11, 0.24), (0.33, 0.27), (0.33, 0.36), (0.08, 0.38), (0.09, 0.78)],
    "statues": [(0.14, -0.92), (0.16, -0.7), (0.08, -0.62), (0.34, -0.5), (0.2, 0.05), (0.36, 0.7), (0.42, 0.92)],
}
FORMS = (*_OUTLINES, "coins", "textiles")


def photograph_object(
    culture: str, form: str, material: str, motifs: tuple[str, ...], size: int, rng: np.random.Generator
) -> Image:
    """Draw an object once.

    Parameters
    ----------
    culture, form, material : a key of ``GROUNDS``, one of ``FORMS``, a key of ``MATERIALS``
    motifs : what is painted on it
    size : short side in pixels; the long one is up to 1.4 times as long

    Returns
    -------
    uint8 [height, width, 3], RGB
    """
    long = round(size * rng.uniform(1, 1.4))
    height, width = (long, size) if form in ("swords", "statues", "vases") else (size, long)
    h, w = height * _SUPERSAMPLING, width * _SUPERSAMPLING
    ground, frame = GROUNDS[culture]
    canvas = np.full((h, w, 3), _shifted(ground, rng), np.uint8)
    border = int(min(h, w) * rng.uniform(0.03, 0.06))
    cv2.rectangle(canvas, (0, 0), (w - 1, h - 1), _shifted(frame, rng), 2 * border)
    mask = np.zeros((h, w), np.uint8)
    scale = min(h, w) * rng.uniform(0.36, 0.45)
    outline = _outline(form, rng) * scale + np.array([w / 2, h / 2]) + rng.normal(0, 0.02, 2) * scale
    cv2.fillPoly(mask, [np.round(outline * 2**_FINE).astype(np.int32)], 255, cv2.LINE_AA, _FINE)
    body = np.full_like(canvas, _shifted(MATERIALS[material], rng))
    for motif in motifs:
        _paint(body, motif, int(scale * rng.uniform(0.24, 0.34)), _shifted(frame, rng), rng)
    light = np.linspace(rng.uniform(0.7, 0.95), rng.uniform(1, 1.15), w, dtype=np.float32)[None, :, None]
    share = mask[:, :, None].astype(np.float32) / 255
    picture = canvas * (1 - share) + np.clip(body * light, 0, 255) * share
    picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    picture = picture * rng.uniform(0.85, 1.1) + rng.normal(0, 5, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def encode_png(image: Image) -> bytes:
    """PNG bytes of an RGB image; equal pixels give equal bytes."""
    ok, data = cv2.imencode(".png", image[:, :, ::-1])
    if not ok:
        raise RuntimeError("OpenCV refused to encode an image as PNG")
    return data.tobytes()


def _shifted(colour: Colour, rng: np.random.Generator) -> tuple[float, ...]:
    return tuple(np.clip(np.array(colour) + rng.normal(0, 9, 3), 0, 255).tolist())


def _outline(form: str, rng: np.random.Generator) -> NDArray[np.float64]:
    if form == "coins":
        turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        return np.stack([np.cos(turn), np.sin(turn)], axis=1) * 0.7
    if form == "textiles":
        return np.array([(-0.85, -0.75), (0.85, -0.75), (0.85, 0.75), (-0.85, 0.75)]) + rng.normal(0, 0.03, (4, 2))
    right = np.array(_OUTLINES[form]) * [rng.uniform(0.9, 1.1), rng.uniform(0.92, 1.04)]
    return np.concatenate([right, right[::-1] * [-1, 1]])


def _paint(body: Image, motif: str, step: int, colour: tuple[float, ...], rng: np.random.Generator) -> None:
    """Repeat a motif all over the body, every ``step`` pixels."""
    h, w = body.shape[:2]
    step, thick = max(step, 6), max(step // 7, 1)
    first = rng.integers(0, step, 2)
    if motif == "stripes":
        for y in range(int(first[1]), h, step):
            cv2.line(body, (0, y), (w, y), colour, thick + 1, cv2.LINE_AA)
        return
    if motif == "lattice":
        for start in range(int(first[0]) - h, w, step):
            cv2.line(body, (start, 0), (start + h, h), colour, thick, cv2.LINE_AA)
            cv2.line(body, (start + h, 0), (start, h), colour, thick, cv2.LINE_AA)
        return
    for y in range(int(first[1]), h + step, step):
        for x in range(int(first[0]), w + step, step):
            _stamp(body, motif, (x, y), step // 3, thick, colour)


def _stamp(body: Image, motif: str, at: tuple[int, int], radius: int, thick: int, colour: tuple[float, ...]) -> None:
    x, y = at
    if motif == "dots":
        cv2.circle(body, at, max(radius // 2, 1), colour, -1, cv2.LINE_AA)
    elif motif == "birds":
        for side in (-1, 1):
            cv2.line(body, at, (x + side * radius, y - radius), colour, thick + 1, cv2.LINE_AA)
    else:  # flowers and rosettes: petals around a heart, five or six of them
        petals = 5 if motif == "flowers" else 6
        for turn in np.linspace(0, 2 * np.pi, petals, endpoint=False):
            petal = (round(x + radius * 0.7 * np.cos(turn)), round(y + radius * 0.7 * np.sin(turn)))
            cv2.circle(body, petal, max(radius // 3, 1), colour, -1, cv2.LINE_AA)
