"""The registered model's entry point (models from code): MLflow runs this file to load an ensemble.

``python_model="…/ensemble_model.py"`` stores this text beside the artifacts, so nothing is pickled.
"""

from __future__ import annotations

from typing import Any

import mlflow
import pandas as pd

from labelstack.tracking.ensemble import Ensemble


class EnsembleModel(mlflow.pyfunc.PythonModel):
    """MLflow's wrapper of ``Ensemble``."""

    def load_context(self, context: Any) -> None:
        """Load the models from the artifact ``ensemble``."""
        self.ensemble = Ensemble.load(context.artifacts["ensemble"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Labels of the images in the column ``image``: see ``Ensemble.predict``."""
        return self.ensemble.predict(
            model_input["image"], all_probabilities=bool((params or {}).get("all_probabilities"))
        )


mlflow.models.set_model(EnsembleModel())
