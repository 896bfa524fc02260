"""The registered model's entry point (models from code): MLflow runs this file to load an ensemble.

``python_model="…/pyfunc_model.py"`` stores this text beside the artifacts, so nothing is pickled.
"""

from __future__ import annotations

import os
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST

from labelstack.ensemble.ensemble import Ensemble
from labelstack.ensemble.request_limits import Limits
from labelstack.support.errors import UserError

# MLflow's server gives a request up after so many seconds, with all its images; half of them go to the fetch.
_SERVER_LIMIT = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"
_TOO_LARGE = 413


class RequestTooLargeError(MlflowException):
    """A request asks for more than the server gives; MLflow's server answers with HTTP 413."""

    def __init__(self, message: str) -> None:
        super().__init__(message, error_code=BAD_REQUEST)

    def get_http_status_code(self) -> int:
        """413, which MLflow has no error code for."""
        return _TOO_LARGE


class EnsembleModel(mlflow.pyfunc.PythonModel):
    """MLflow's wrapper of ``Ensemble``: strangers may send the images."""

    def load_context(self, context: Any) -> None:
        """Load the models from the artifact ``ensemble``."""
        limit = os.environ.get(_SERVER_LIMIT)
        self.patience_s = float(limit) / 2 if limit else None
        Limits.of_environment()  # a wrong one is told before any request
        self.ensemble = Ensemble.load(context.artifacts["ensemble"], served=True)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Labels of the images in the column ``image``, or regions of these photos with labels.

        See ``Ensemble.predict`` and ``Ensemble.regions``.
        """
        if not isinstance(model_input, pd.DataFrame) or "image" not in model_input:
            found = list(model_input) if isinstance(model_input, pd.DataFrame) else type(model_input).__name__
            raise MlflowException.invalid_parameter_value(
                f"expected a table with the column `image` (a URL, base64 or a path in each row), not {found}"
            )
        images = model_input["image"]
        size = sum(len(image) for image in images if isinstance(image, str | bytes))
        if problem := Limits.of_environment().refusal(len(images), size):
            raise RequestTooLargeError(problem)
        said = params or {}
        try:
            if self.ensemble.spec.regions is not None:
                if said.get("attributes"):
                    raise UserError("attributes: this version tells all attributes of regions; leave it out")
                return self.ensemble.regions(
                    images,
                    all_probabilities=bool(said.get("all_probabilities")),
                    patience_s=self.patience_s,
                    progress=False,
                )
            return self.ensemble.predict(
                images,
                all_probabilities=bool(said.get("all_probabilities")),
                attributes=[name.strip() for name in str(said.get("attributes", "")).split(",") if name.strip()],
                patience_s=self.patience_s,
                progress=False,
            )
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


mlflow.models.set_model(EnsembleModel())
