"""Images with bytes changed, cut, doubled and moved: they decode, or are refused by a status, and never anything else.

``LABELSTACK_FUZZ=100000 pytest -n0 …`` tries so many of each.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from images.bombs import empty_scans, exif_jpeg
from images.server import encoded, jpeg, picture
from labelstack.images.fetching.status import RefusedError, is_pattern
from labelstack.images.pixels.decode import read_pixels, to_stored_jpeg

CASES = int(os.environ.get("LABELSTACK_FUZZ", "60"))
PICTURE = picture()
ALPHA = np.concatenate([PICTURE, PICTURE[..., :1]], axis=2)
SEEDS = {
    "jpeg": jpeg(),
    "progressive": encoded(PICTURE, progressive=True),
    "scans": empty_scans(40, 30),
    "exif": exif_jpeg(b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"),
    "png": encoded(ALPHA, "PNG"),
    "deep png": encoded(PICTURE[..., 0].astype(np.uint16) * 257, "PNG"),
    "webp": encoded(PICTURE, "WEBP"),
    "gif": encoded(PICTURE, "GIF"),
    "tiff": encoded(PICTURE, "TIFF", compression="tiff_adobe_deflate"),
    "plain tiff": encoded(PICTURE, "TIFF"),
    "bmp": encoded(PICTURE, "BMP"),
    "avif": encoded(PICTURE, "AVIF"),
}
places = st.floats(0, 1, exclude_max=True)
changes = st.lists(
    st.tuples(st.sampled_from(["set", "cut", "insert", "double", "drop"]), places, st.binary(min_size=1, max_size=6)),
    min_size=1,
    max_size=6,
)
# Bytes at the start decide what an image is; half of the changes fall there.
near = st.integers(0, 120).map(lambda at: at / 1000)


def changed(data: bytes, steps: list[tuple[str, float, bytes]]) -> bytes:
    """The bytes after the steps, each at a share of the length."""
    for kind, share, value in steps:
        at = int(share * len(data))
        if kind == "set":
            data = data[:at] + value + data[at + len(value) :]
        elif kind == "cut":
            data = data[:at]
        elif kind == "insert":
            data = data[:at] + value + data[at:]
        elif kind == "double":
            data = data[:at] + data[at : at + 40] * (1 + value[0]) + data[at + 40 :]
        else:
            data = data[:at] + data[at + value[0] :]
    return data


@pytest.mark.parametrize("seed", SEEDS)
def test_changed_images_decode_or_are_refused(seed: str) -> None:
    @settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        changes | st.lists(st.tuples(st.just("set"), near, st.binary(min_size=1, max_size=4)), min_size=1),
        st.booleans(),
    )
    def look(steps: list[tuple[str, float, bytes]], keep: bool) -> None:
        try:
            data, width, height = to_stored_jpeg(changed(SEEDS[seed], steps), 24, 90, "keep" if keep else "refuse")
        except RefusedError as refusal:
            status = refusal.status
        else:
            assert read_pixels(data).shape == (height, width, 3)
            status = "ok"
        assert is_pattern(status)

    look()


@settings(max_examples=CASES, deadline=None)
@given(st.sampled_from([b"", *(data[:n] for data in SEEDS.values() for n in (4, 12, 40))]), st.binary(max_size=400))
def test_any_bytes_decode_or_are_refused(start: bytes, rest: bytes) -> None:
    status = "ok"
    try:
        to_stored_jpeg(start + rest, 24, 90)
    except RefusedError as refusal:
        status = refusal.status
    assert is_pattern(status)
