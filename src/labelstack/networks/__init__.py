"""Base models: backbones, head, losses, training that survives a kill, batched inference."""

import os

# TensorFlow reads this once, when it is first imported; its start-up notes would drown our own messages.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
