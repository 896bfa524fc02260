"""Photos under the classes of their pixels, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
# Okabe & Ito 2008: eight colours that people with colour blindness tell apart, black left out; RGB.
_HUES = np.array(
    [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)],
    np.uint8,
)
_GREY, _LONGEST = 128, 12
_NAMED = 0.005  # of the photo's pixels: what is smaller has no name


def overlay(photo: Pixels, map_: NDArray[Any], background: int, names: Sequence[str] = ()) -> Pixels:
    """A photo under its classes, uint8 [h, w, 3] RGB: names tell apart those that share a colour.

    Parameters
    ----------
    photo : uint8 [h, w, 3] RGB
    map_ : whole numbers [h, w]
    names : of classes; none: their numbers are shown
    """
    classes = np.asarray(map_, np.int64)
    colours = _HUES[classes % len(_HUES)]
    colours[classes == background] = _GREY
    shown = cv2.addWeighted(photo, 0.5, colours, 0.5, 0)
    for class_ in np.unique(classes[classes != background]).tolist():
        _, _, stats, middles = cv2.connectedComponentsWithStats((classes == class_).astype(np.uint8))
        largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        if stats[largest, cv2.CC_STAT_AREA] < _NAMED * classes.size:
            continue
        x, y = middles[largest].astype(int).tolist()
        text = _plain(names[class_]) if class_ < len(names) else str(class_)
        for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(shown, text, (max(x - 20, 0), y), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, width, cv2.LINE_AA)
    return np.asarray(shown, np.uint8)


def beside_each_other(
    photo: Pixels,
    maps: Sequence[NDArray[Any]],
    background: int,
    names: Sequence[str] = (),
    height: int | None = None,
) -> Pixels:
    """A photo, and beside it the photo under each of several class maps, such as truth and prediction.

    Parameters
    ----------
    height : to which all are brought before names are written; None: the photo's own
    """
    if height is not None:
        size = max(round(photo.shape[1] * height / photo.shape[0]), 1), height
        photo = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)
        maps = [cv2.resize(map_, size, interpolation=cv2.INTER_NEAREST_EXACT) for map_ in maps]
    return np.hstack([photo, *(overlay(photo, map_, background, names) for map_ in maps)])


def below_each_other(rows: Sequence[Pixels]) -> Pixels:
    """Pictures uint8 [h, w, 3] one under the other; narrower ones end in white."""
    width = max(row.shape[1] for row in rows)
    padded = (np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows)
    return np.vstack(list(padded))


def png(picture: Pixels) -> bytes:
    """A picture uint8 [h, w, 3] RGB as a file."""
    return bytes(cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes())


def _plain(name: str) -> str:
    """A name that OpenCV can write: ASCII, its first words."""
    clean = "".join(sign if sign.isascii() and sign.isprintable() else "?" for sign in name)
    return clean if len(clean) <= _LONGEST else clean[:_LONGEST].rpartition(",")[0] or clean[:_LONGEST]
