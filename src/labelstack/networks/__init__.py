"""Base models: backbones, head, losses, training that survives a kill, batched inference."""

from labelstack.support.quiet import load_tensorflow

load_tensorflow()
