"""Where stage outputs lie, relative to the folder of dvc.yaml or of a rebuilt one; no other module says it."""

from pathlib import Path

SPLITS = ("train", "validation", "test")

SAMPLE = "data/sample"  # of the garments that the first stage draws
SETTINGS = Path("data/settings.json")
LABELS = Path("data/manifest/labels.parquet")
ANSWERS = Path("data/manifest/answers.parquet")
LOCAL_FILES = Path("data/manifest/local_files.json")
SUBMISSION_FORM = Path("data/manifest/submission.json")
ENSEMBLE = Path("models/ensemble")
BLENDED = Path("data/ensemble")
METRICS = Path("metrics")
PLOTS = Path("metrics/plots")
EVALUATION = METRICS / "evaluation.json"
REPORT = Path("report")
WORK = Path("data/work")
CODE = WORK / "code.json"  # digests of the code, kept


def manifest(split: str) -> Path:
    """The manifest of one split."""
    return Path(f"data/manifest/{split}.parquet")


def shards(split: str) -> Path:
    """The folder of a split's shards."""
    return Path(f"data/images/{split}")


def base(name: str) -> Path:
    """The folder of a trained base model."""
    return Path(f"models/base/{name}")


def predictions(name: str, split: str) -> Path:
    """A base model's predictions of one split."""
    return Path(f"data/predictions/{name}/{split}.npz")


def stacker(name: str) -> Path:
    """The folder of a stacker's fold models."""
    return Path(f"models/stackers/{name}")


def stacked(name: str, part: str) -> Path:
    """A stacker's predictions: ``oof`` on validation, ``nested`` without each fold in turn, or ``test``."""
    return Path(f"data/stacked/{name}/{part}.npz")


def cross_fitted(name: str, stacker: bool) -> Path:
    """Labels of the validation images by rules chosen without each fold in turn, of a stacker or base model."""
    return Path(f"data/{'stacked' if stacker else 'predictions'}/{name}/cross_fitted.npz")


def members(kind: str) -> Path:
    """What the next level is told of the ``base_models`` or ``stackers``."""
    return Path(f"data/members/{kind}.json")


def work(stage: str, name: str, digest: str) -> Path:
    """Unfinished work that survives a kill: out of DVC's sight, keyed by what it is made from."""
    return WORK / stage / name / digest
