"""Binary cross-entropy."""

from __future__ import annotations

from typing import Any

import keras


def bce(targets: Any, logits: Any, known: Any, frequency: Any) -> Any:
    """Keras's binary cross-entropy on logits, the mean over labels; see ``tasks.LossFunction``."""
    return keras.losses.binary_crossentropy(targets, logits, from_logits=True)
