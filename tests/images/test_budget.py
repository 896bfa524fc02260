"""Small files that ask for much are refused by what is counted in them, and others are decoded as ever."""

from __future__ import annotations

import io
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from images.bombs import (
    chunk,
    directory,
    empty_scans,
    exif_jpeg,
    flat,
    noisy,
    png_with,
    run_length_bmp,
    tall_tile,
)  # fmt: skip
from labelstack.images.fetching.status import RefusedError
from labelstack.images.pixels import budget, tones
from labelstack.images.pixels.budget import USUAL, Budget, memory_of, scans_of, work_of
from labelstack.images.pixels.decode import to_stored_jpeg
from labelstack.images.shards.build import Job, as_task, build_shard
from labelstack.images.shards.shard_files import read_shard
from labelstack.params.images import ImagesSection

_LIMIT_S = 5  # of CPU; unguarded, each takes minutes or gigabytes


def status(data: bytes, allowed: Budget = USUAL) -> str:
    """How the image ends, which must not take long."""
    started = time.process_time()
    try:
        to_stored_jpeg(data, 64, 90, allowed=allowed)
    except RefusedError as refusal:
        return refusal.status
    finally:
        assert time.process_time() - started < _LIMIT_S
    return "ok"


JPEG = flat(16)
BOMBS = {
    "100,000 empty scans": lambda: empty_scans(2000, 100_000),
    "scans of a tiny image": lambda: empty_scans(16, 50_000),
    "4,000,000 comments": lambda: JPEG[:2] + b"\xff\xfe\0\2" * 4_000_000 + JPEG[2:],
    "comments behind a marker that Pillow passes": lambda: (
        JPEG[:2] + (b"\xff\xc8\xff\xff" + b"\xff\xfe\0\2" * 16_383) * 100 + JPEG[2:]
    ),
    "markers behind the first scan": lambda: empty_scans(2000, 2000) + b"\xff\x01" * 5_000_000,
    "markers within the first scan": lambda: JPEG[:-2] + b"\xff\x01" * 5_000_000 + b"\xff\xda\0\2" * 50_000,
    "fill bytes": lambda: JPEG[:20] + b"\xff" * 20_000_000 + JPEG[20:],
    "bytes of no segment": lambda: JPEG[:20] + b"\1" * 20_000_000 + JPEG[20:],
    "1,600,000 chunks": lambda: png_with(chunk(b"teXt", b"") * 1_600_000),
    "tags over one another in Exif": lambda: exif_jpeg(directory(5000, 60_000)),
    "tags over one another in a PNG": lambda: png_with(chunk(b"eXIf", directory(25_000, 300_000))),
    "tags over one another in a TIFF": lambda: directory(60_000, 10_000_000, tag=0x1000) + bytes(10_000_000),
    "a tile larger than its image": lambda: tall_tile(20_000),
    "a BMP in runs": lambda: run_length_bmp(9000),
    "2,000,000 strips": lambda: directory(1, 2_000_000, tag=273) + bytes(8_000_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_are_decoded(name: str) -> None:
    assert status(BOMBS[name]()) == "too_large"


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_packed_texts_of_a_png_are_bounded(kind: bytes) -> None:
    packed = zlib.compress(bytes(100_000_000), 1)
    assert status(png_with(chunk(kind, b"k\0\0" + packed) * 3)) in {"not_an_image", "ok"}


def test_scans_are_counted_as_libjpeg_finds_them() -> None:
    assert scans_of(flat(40)) == 1
    assert scans_of(flat(40, progressive=True)) == 10
    assert scans_of(empty_scans(40, 137)) == 137
    grey = flat(40, mode="L", progressive=True)
    assert scans_of(grey) == 6
    comment = b"\xff\xfe\0\x06\xff\xda\xff\xda"
    assert scans_of(grey[:2] + comment + grey[2:]) == 6  # what stands in a comment is none
    assert scans_of(grey + empty_scans(40, 50)) == 6  # nor what stands behind the end
    assert scans_of(grey[:-2] + b"\xff\x02\0\x40" + grey[-60:-2] * 3 + b"\xff\xd9") >= 7  # nothing hides behind 0xff02


def test_the_budget_is_pixels_times_scans() -> None:
    data = empty_scans(600, 50)
    with Image.open(io.BytesIO(data)) as image:
        assert work_of(image, data, 10**9) == 600 * 600 * 50
    assert status(data, Budget(600 * 600 * 50 - 1, 10**9)) == "too_large"
    assert status(data, Budget(600 * 600 * 50, 10**9)) != "too_large"
    plain = flat(600)
    assert status(plain, Budget(600 * 600, 10**9)) == "ok"


@pytest.mark.parametrize(
    ("kind", "mode", "a_pixel"),
    [("PNG", "RGBA", 7), ("PNG", "L", 4), ("BMP", "RGB", 7), ("WEBP", "RGB", 27), ("JPEG", "RGB", 3)],
)
def test_memory_is_counted_by_format_and_mode(kind: str, mode: str, a_pixel: int) -> None:
    data = flat(500, kind, mode)
    with Image.open(io.BytesIO(data)) as image:
        assert memory_of(image, data) == a_pixel * 500 * 500
    assert status(data, Budget(10**9, a_pixel * 500 * 500 - 1)) == "too_large"
    assert status(data, Budget(10**9, a_pixel * 500 * 500)) == "ok"


def test_a_progressive_jpeg_keeps_its_coefficients() -> None:
    data = flat(500, progressive=True, subsampling=0)
    with Image.open(io.BytesIO(data)) as image:
        assert memory_of(image, data) == (3 * 2 + 3) * 500 * 500


def test_params_set_the_budget_of_a_download(tmp_path: object) -> None:
    root = tmp_path
    (root / "a.jpg").write_bytes(empty_scans(600, 50))  # type: ignore[operator]
    found = []
    for work in (10_000_000, 1_000_000_000):
        job = Job(str(root / f"{work}.parquet"), [1], [["file:a.jpg"]])  # type: ignore[operator]
        params = ImagesSection(max_decode_work=work, damaged="keep")
        build_shard(as_task(job, params, root))  # type: ignore[arg-type]
        found += read_shard(job.path).status
    assert found == ["too_large", "ok"]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGB", "L", "P", "PA", "CMYK", "I;16", "I", "F", "1", "LAB", "YCbCr"])
def test_bands_change_no_pixel(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noisy(97)
    if mode in {"I;16", "I"}:
        image = Image.fromarray(pixels[..., 0].astype(np.uint16 if mode == "I;16" else np.int32) * 200)
    elif mode == "F":
        image = Image.fromarray(pixels[..., 0].astype(np.float32))
    elif mode == "LAB":
        image = Image.frombytes("LAB", (97, 97), pixels[..., :3].tobytes())
    else:
        image = Image.fromarray(pixels).convert("RGB" if mode in {"YCbCr", "P", "PA", "CMYK"} else mode).convert(mode)
    if mode in {"P", "RGB"}:
        image.info["transparency"] = 3 if mode == "P" else tuple(pixels[5, 5, :3].tolist())
    whole = tones.to_bgr(image.copy(), 8)
    assert whole.shape == (97, 97, 3)
    monkeypatch.setattr(tones, "_BAND", 97 * 10)
    assert (tones.to_bgr(image, 8) == whole).all()


_CHILD = """
import io, sys
from concurrent.futures import ThreadPoolExecutor
from PIL import Image
from labelstack.images.pixels.decode import to_stored_jpeg

def held(name):
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(name))

times = int(sys.argv[1])
file = io.BytesIO()
Image.new("RGBA", (64, 64)).save(file, "PNG")
to_stored_jpeg(file.getvalue(), 64, 90)
data = sys.stdin.buffer.read()
before = held("VmRSS")
with ThreadPoolExecutor(2) as threads:
    sizes = {found[1:] for found in threads.map(lambda _: to_stored_jpeg(data, 64, 90), range(times))}
    print(before, held("VmRSS"), held("VmHWM"), sizes == {(64, 64)})
"""


def _memory(side: int, times: int) -> tuple[int, int, int]:
    """Bytes that a process holds before and after images of this side, and the most that it held."""
    file = io.BytesIO()
    Image.new("RGBA", (side, side), (200, 30, 30, 128)).save(file, "PNG")
    command = [sys.executable, "-c", _CHILD, str(times)]
    done = subprocess.run(command, input=file.getvalue(), capture_output=True, check=True)
    before, after, peak, right = done.stdout.decode().split()
    assert right == "True"
    return int(before), int(after), int(peak)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_goes_back_after_big_images() -> None:
    before, after, peak = _memory(3600, 4)  # just beyond decode.BIG_PIXELS
    assert after < 1.2 * before
    assert peak - before < 12 * 3600 * 3600


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_goes_back_after_fourteen_of_the_largest() -> None:
    before, after, peak = _memory(9999, 14)
    assert after < 1.2 * before
    assert peak - before < 9 * 9999 * 9999


def test_budgets_out_of_range_are_refused() -> None:
    for name, value in (("max_decode_work", 999_999), ("max_decode_bytes", 9_999_999), ("max_decode_work", 10**12 + 1)):
        with pytest.raises(ValueError, match=name):
            ImagesSection(**{name: value})
    assert budget.Budget.of(ImagesSection()) == USUAL
