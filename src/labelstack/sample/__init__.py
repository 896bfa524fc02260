"""A generated garment data set, so that the pipeline runs anywhere without a download."""

from labelstack.sample.dataset import draw_dataset

__all__ = ["draw_dataset"]
