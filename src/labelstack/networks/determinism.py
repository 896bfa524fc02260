"""Same seed, same machine, same weights."""

from __future__ import annotations


def make_deterministic(seed: int) -> None:
    """Seed Python, NumPy and Keras and make TensorFlow's operations deterministic, for the whole process.

    Parameters
    ----------
    seed : int
        0 … 2**31 − 1. Decides initial weights; layer names are counted from zero again, so that equal models are saved
        under equal names.
    """
    import keras

    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    deterministic_operations()


def deterministic_operations() -> None:
    """Make TensorFlow's operations deterministic, for the whole process; random streams stay as they are."""
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
