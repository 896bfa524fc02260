"""Sub-pixel convolution that begins without a checkerboard (Aitken et al. 2017)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

FACTOR = 2  # by which a map grows


@keras.saving.register_keras_serializable(package="labelstack")
class ICNR(keras.initializers.Initializer):  # type: ignore[misc]
    """He et al. 2015 by the number of inputs, the same for the four sub-pixels of a filter.

    TensorFlow's ``depth_to_space`` has channels ordered (sub-pixel, filter), PyTorch's ``PixelShuffle`` (filter,
    sub-pixel): here all filters of the first sub-pixel come first.

    Parameters
    ----------
    seed : int, optional
        None: drawn from Keras's own seed.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed

    def __call__(self, shape: Any, dtype: Any = None, **_: Any) -> Any:
        """Kernel [h, w, in, 4 · filters]; raise ``ValueError`` when the last is not divisible by 4."""
        *before, channels = shape
        if channels % FACTOR**2:
            raise ValueError(f"{channels} channels are not divisible into {FACTOR**2} sub-pixels")
        drawn = he_normal(self.seed)((*before, channels // FACTOR**2), dtype=dtype)
        return ops.tile(drawn, (*[1] * len(before), FACTOR**2))

    def get_config(self) -> dict[str, Any]:
        """For saving."""
        return {"seed": self.seed}


def he_normal(seed: int | None = None) -> keras.initializers.Initializer:
    """PyTorch's ``kaiming_normal_``: by the number of inputs, not truncated."""
    return keras.initializers.VarianceScaling(2.0, mode="fan_in", distribution="untruncated_normal", seed=seed)
