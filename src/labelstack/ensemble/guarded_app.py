"""MLflow's scoring application behind ``RequestLimits``: ``uvicorn labelstack.ensemble.guarded_app:app``.

As ``mlflow.pyfunc.scoring_server.app``, it loads the model that the environment of ``scoring_server.get_cmd`` names.
"""

from __future__ import annotations

from labelstack.ensemble.request_limits import Limits, RequestLimits

_limits = Limits.of_server()  # a wrong limit is told before a model is loaded

from mlflow.pyfunc.scoring_server.app import app as _app  # noqa: E402  (importing it loads the model)

app = RequestLimits(_app, _limits)
