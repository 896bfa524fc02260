"""MLflow's artifacts in a bucket, with a store that is a database: logged, registered and loaded from there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s3_server import CREDENTIALS, credentials_in_environment, objects, s3_server
from tiny import Workspace

LOAD = """
import sys
import mlflow, pandas as pd
uri, model, *images = sys.argv[1:]
mlflow.set_tracking_uri(uri)
predicted = mlflow.pyfunc.load_model(model).predict(pd.DataFrame({"image": images}))
print(predicted.to_json(orient="records", double_precision=15))
"""


def local_artifacts(workspace: Workspace) -> set[Path]:
    """Files that labelstack wrote; MLflow leaves registered_model_meta where it loads a version from."""
    files = {file for file in (workspace.root / "mlartifacts").rglob("*") if file.is_file()}
    return {file for file in files if file.name != "registered_model_meta"}


def test_artifacts_in_a_bucket(copied: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = local_artifacts(copied)
    images = sorted(map(str, (copied.root / "data/sample/images/test").iterdir()))[:3]
    credentials_in_environment(monkeypatch, tmp_path)
    copied.params(tracking={"uri": "sqlite:///other.db", "artifacts": "s3://bucket/team/mlflow"})
    with s3_server() as server:
        typed = ("env", f"MLFLOW_S3_ENDPOINT_URL={server}", "LABELSTACK_ALLOW_PATHS=data/sample")
        copied.run(*typed, "labelstack", "stage", "blend")
        copied.run(*typed, "labelstack", "stage", "register")
        there = objects(server)
        # a process each: a model brings its own code
        places = (
            ("sqlite:///mlflow.db", "models:/labelstack/1"),
            ("sqlite:///other.db", "models:/labelstack@champion"),
        )
        loaded = [copied.run(*typed, "python", "-c", LOAD, *place, *images).stdout for place in places]
    from_folder, from_bucket = (json.loads(output.splitlines()[-1]) for output in loaded)
    assert from_bucket == from_folder
    assert [row["error"] for row in from_bucket] == [None] * len(images)
    assert all(key.startswith("team/mlflow/") for key in there)
    names = {key.rpartition("/")[2] for key in there}
    assert {"MLmodel", "blend.json", "thresholds.json", "model.keras"} <= names
    assert local_artifacts(copied) == before
    for file in [copied.root / "other.db", copied.root / "models/ensemble/registration.json"]:
        assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"].encode() not in file.read_bytes()
    assert not any(CREDENTIALS["AWS_SECRET_ACCESS_KEY"].encode() in content for content in there.values())
