"""Maps of where a network looks, on disk."""

from pathlib import Path

import numpy as np
import pytest

from labelstack.images.heat_table import HeatMaps, as_stored, read_heat, write_heat


def test_what_is_written_is_read_and_has_the_same_bytes(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    heat = HeatMaps(np.array([7, 2, 9]), as_stored(maps))
    for name in ("a", "b"):
        write_heat(tmp_path / name, heat)
    found = read_heat(tmp_path / "a")
    assert list(found) == [7, 2, 9]
    assert found[2] / 255 == pytest.approx(maps[1] / maps[1].max(), abs=0.003)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_heat(tmp_path / "none") == {}


def test_a_map_without_heat_stays_so() -> None:
    assert as_stored(np.zeros((2, 3, 3), np.float32)).max() == 0
    assert as_stored(np.zeros((0, 3, 3), np.float32)).shape == (0, 3, 3)
