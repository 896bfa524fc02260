"""TensorFlow without its chatter: start-up lines that no log level silences, and retracing notes."""

from __future__ import annotations

import gc
import os
import sys


def load_tensorflow() -> None:
    """Import TensorFlow with standard error closed; an import that fails still raises its exception.

    What was imported stays for good, so the garbage collector need not look through it again and again while networks
    are traced: that took two of ten seconds of a short stage.
    """
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    collects = gc.isenabled()
    gc.disable()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        import tensorflow as tf
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
        if collects:
            gc.enable()
    gc.freeze()
    tf.get_logger().setLevel("ERROR")
