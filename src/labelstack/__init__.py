"""labelstack: labelled image URLs in, a tracked, stacked and rebuildable multi-label ensemble out."""

__version__ = "0.2.0"
