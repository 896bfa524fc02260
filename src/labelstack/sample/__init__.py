"""Generated data sets, so that the pipeline runs anywhere without a download: garments, and museum objects."""

from labelstack.sample.attributes import draw_attributes
from labelstack.sample.dataset import draw_dataset
from labelstack.sample.instances import draw_instances
from labelstack.sample.museum import draw_museum

__all__ = ["draw_attributes", "draw_dataset", "draw_instances", "draw_museum"]
