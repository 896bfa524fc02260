"""params.yaml as typed models, a file for each section; the only place that knows keys, defaults and bounds."""

from labelstack.params.file import Params, digest, flatten, load_params

__all__ = ["Params", "digest", "flatten", "load_params"]
