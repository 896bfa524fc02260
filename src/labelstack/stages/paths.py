"""Where stage outputs lie, relative to the folder of dvc.yaml or of a rebuilt one; files of members: `members.py`."""

from pathlib import Path

SPLITS = ("train", "validation", "test")

SAMPLE = "data/sample"  # of the garments that the first stage draws
SETTINGS = Path("data/settings.json")
LABELS = Path("data/manifest/labels.parquet")
ANSWERS = Path("data/manifest/answers.parquet")
LOCAL_FILES = Path("data/manifest/local_files.json")
SUBMISSION_FORM = Path("data/manifest/submission.json")
ENSEMBLE = Path("models/ensemble")
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


def members(kind: str) -> Path:
    """What the next level is told of the ``base_models`` or ``stackers``."""
    return Path(f"data/members/{kind}.json")


def work(stage: str, name: str, digest: str) -> Path:
    """Unfinished work that survives a kill: out of DVC's sight, keyed by what it is made from."""
    return WORK / stage / name / digest
