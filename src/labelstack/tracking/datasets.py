"""What a run learned from or was scored on, as an MLflow dataset: name, digest, source, schema, counts; no rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from labelstack.params import digest as digest_of
from labelstack.tracking.texts import without_credentials

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

Context = Literal["train", "validation", "test"]
_SCHEMA = {
    "mlflow_colspec": [
        {"name": "image_id", "type": "long", "required": True},
        {"name": "image", "type": "binary", "required": True},
        {"name": "label_id", "type": "array", "items": {"type": "integer"}, "required": False},
    ]
}
_DIGEST, _NAME = 36, 500  # characters that MLflow keeps


@dataclass(frozen=True)
class Dataset:
    """Images with labels, as a run's inputs name them.

    Attributes
    ----------
    name : str
        Such as ``sample train``.
    digest : str
        Of the data's hashes and the rows used; equal data has an equal digest in every run.
    context : ``train``, ``validation`` or ``test``
    source : dict
        Paths relative to the project and their hashes.
    counts : dict
        images, labels, positives where the labels are known.
    """

    name: str
    digest: str
    context: Context
    source: dict[str, Any]
    counts: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it, in MLflow's terms; no credentials."""
        return {
            "name": without_credentials(self.name)[:_NAME],
            "digest": self.digest if len(self.digest) <= _DIGEST else digest_of(self.digest)[:_DIGEST],
            "source_type": "local",
            "source": without_credentials(json.dumps(self.source)),
            "schema": json.dumps(_SCHEMA),
            "profile": json.dumps({"num_rows": self.counts["images"], **self.counts}),
            "context": self.context,
        }


def dataset_input(content: dict[str, Any]) -> DatasetInput:
    """MLflow's entity of what ``Dataset.to_dict`` gave."""
    from mlflow.entities import Dataset as Entity
    from mlflow.entities import DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    fields = {key: value for key, value in content.items() if key != "context"}
    return DatasetInput(Entity(**fields), [InputTag(MLFLOW_DATASET_CONTEXT, content["context"])])
