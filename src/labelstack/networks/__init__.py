"""Base models: backbones, head, losses, training that survives a kill, batched inference."""

from labelstack.quiet import load_tensorflow

load_tensorflow()
