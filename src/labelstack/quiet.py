"""TensorFlow without its chatter: start-up lines that no log level silences, and retracing notes."""

from __future__ import annotations

import os
import sys


def load_tensorflow() -> None:
    """Import TensorFlow with standard error closed; an import that fails still raises its exception."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        import tensorflow as tf
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
    tf.get_logger().setLevel("ERROR")
