"""Stage `register`: the ensemble as one version in the MLflow registry."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from labelstack import storage
from labelstack.params import Params, digest, load_params
from labelstack.pipeline import paths
from labelstack.pipeline.common import done, label_table
from labelstack.tracking.ensemble_folder import Parts, Settings
from labelstack.tracking.ensemble_log import log_ensemble
from labelstack.tracking.registry import ensemble_digest, register
from labelstack.tracking.run_file import read_run_json
from labelstack.tracking.runs import connect

# Kept with the model for rebuilding; absent ones (a folder without git or DVC) are left out.
FILES = ("params.yaml", "dvc.lock", "dvc.yaml", "requirements.lock")


def parts(params: Params) -> Parts:
    """Everything that predicts: files of stage outputs and how images are read."""
    labels = label_table()
    return Parts(
        models={
            name: (paths.base(name) / "model.keras", model.image_size, model.resize)
            for name, model in params.models.items()
        },
        stackers={name: paths.stacker(name) / "folds" for name in params.stackers},
        blend=paths.ENSEMBLE / "blend.json",
        thresholds=paths.ENSEMBLE / "thresholds.json",
        labels=list(zip(labels["label_id"].tolist(), labels["name"].tolist(), strict=True)),
        settings=Settings(
            tta=tuple(params.prediction.tta),
            batch_size=params.prediction.batch_size,
            store_size=params.images.store_size,
            jpeg_quality=params.images.jpeg_quality,
        ),
        files={name: Path(name) for name in FILES if Path(name).exists()},
    )


def digests(params: Params, ensemble: Parts) -> dict[str, str]:
    """A digest of every part, of what it has learnt and not of file bytes, which hold dates."""
    found = {name: read_run_json(paths.base(name) / "run.json")["weights_digest"] for name in params.models}
    found |= {name: read_run_json(paths.stacker(name) / "run.json")["digest"] for name in params.stackers}
    found |= {file.name: storage.sha256(file) for file in (ensemble.blend, ensemble.thresholds)}
    views = {name: view for name, (_, *view) in ensemble.models.items()}
    settings = {key: value for key, value in asdict(ensemble.settings).items() if key != "batch_size"}
    return found | {"labels": digest(ensemble.labels), "settings": digest([settings, views])}


def model_card(params: Params, evaluation: dict[str, Any], ensemble: str) -> str:
    """Markdown that the registry shows with the version: scores, members, how it was made."""
    blend = evaluation["scores"]["blend"]
    primary = evaluation["primary"]
    weights = storage.read_json(paths.ENSEMBLE / "blend.json")["weights"]
    members = "\n".join(
        f"| {name} | {evaluation['scores'][name]['kind']} | {weight:.2f} | {evaluation['scores'][name][primary]:.4f} |"
        for name, weight in weights.items()
    )
    scores = "\n".join(f"| {key} | {value:.4f} |" for key, value in blend.items() if isinstance(value, float))
    return (
        f"Multi-label ensemble over {evaluation['n_labels']} labels, data set `{params.dataset.root}`.\n\n"
        f"Scored on {evaluation['n_validation']} validation images; *cross-fitted* scores use weights and thresholds "
        f"chosen without the scored fold.\n\n| score | value |\n|---|---|\n{scores}\n\n"
        f"| member | kind | weight | {primary} |\n|---|---|---|---|\n{members}\n\n"
        f"Ensemble digest `{ensemble}`, seed {params.seed}. `files/` holds params.yaml, dvc.lock and the requirements."
    )


def run() -> None:
    """Register the ensemble unless it is there already; write models/ensemble/registration.json."""
    params = load_params()
    tracker = connect(params.tracking)
    ensemble = parts(params)
    whole = ensemble_digest(digests(params, ensemble))
    evaluation = storage.read_json(paths.EVALUATION)
    blended = read_run_json(paths.ENSEMBLE / "run.json")
    tags = {key: value for key, value in blended["tags"].items() if key.startswith(("git.", "params.", "dvc."))}
    with tracker.run("blend", "ensemble", run_id=blended["run_id"]) as run_:
        version = register(
            tracker,
            params.tracking.registered_model,
            whole,
            lambda: log_ensemble(run_, ensemble, requirements=Path("requirements.lock")),
            description=model_card(params, evaluation, whole),
            tags=tags,
        )
        run_.set_tags({"labelstack.registry_version": f"{version.name}/{version.version}"})
    storage.write_json(
        paths.ENSEMBLE / "registration.json",
        {
            "name": version.name,
            "version": version.version,
            "uri": version.uri,
            "digest": whole,
            "run_id": version.run_id,
        },
    )
    state = "new version" if version.created else "registered before"
    done("register", f"{version.name} v{version.version} ({state}), digest {whole}", version.uri)
