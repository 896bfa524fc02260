"""Base models: backbones, losses, the task of a network, training that survives a kill, batched inference."""

from labelstack.support.quiet import load_tensorflow

load_tensorflow()
