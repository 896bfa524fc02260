"""Predictions of shards that a killed `predict` left: taken up as they were written, and otherwise made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labelstack.predictions import read_predictions, write_part
from labelstack.stages.work.predict_network import _finished


def test_a_part_with_a_flipped_bit_is_not_finished(tmp_path: Path) -> None:
    """Wherever the bit is: the part is made again, or it says what it said."""
    file, ids = tmp_path / "part.npz", np.arange(5)
    write_part(file, ids, np.linspace(0, 1, 20, dtype=np.float32).reshape(5, 4))
    job, whole, content = {"out": str(file)}, read_predictions(file), file.read_bytes()
    assert _finished(job)
    seen = 0
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        if _finished(job):
            found = read_predictions(file)
            np.testing.assert_array_equal(found.image_id, whole.image_id)
            np.testing.assert_array_equal(found.probability, whole.probability)
        else:
            seen += 1
    assert seen > len(content) // 2
    file.unlink()
    assert not _finished(job)
