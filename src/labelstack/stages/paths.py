"""Where stage outputs lie, relative to the folder of dvc.yaml or of a rebuilt one; no other module says it."""

from pathlib import Path
from typing import NamedTuple

SPLITS = ("train", "validation", "test")

SAMPLE = "data/sample"  # what the first stage draws
SETTINGS = Path("data/settings.json")
LABELS = Path("data/manifest/labels.parquet")
ANSWERS = Path("data/manifest/answers.parquet")
LOCAL_FILES = Path("data/manifest/local_files.json")
SUBMISSION_FORM = Path("data/manifest/submission.json")
BESIDE = Path("data/manifest/beside.parquet")  # what the data set says of rows for their folds
INSTANCES = Path("data/manifest/instances.parquet")  # with masks; no rows where a format has none
TRUE_INSTANCES = Path("data/manifest/test_instances.parquet")  # of test photos, as dataset.answers has them
CLASS_MAPS = Path("data/class_maps/test.parquet")  # of test photos, as all segmenters see them
PHOTO_FOLDS = Path("data/photo_folds.parquet")  # of train photos, where segmenters learn from them
FOLDS = Path("data/folds")
STACKING = FOLDS / "stacking.parquet"
AUDIT = FOLDS / "audit.parquet"
ENSEMBLE = Path("models/ensemble")
BLEND_FILE = ENSEMBLE / "blend.yml"
METRICS = Path("metrics")
MASK_SCORES = METRICS / "masks.json"
PLOTS = Path("metrics/plots")
EVALUATION = METRICS / "evaluation.json"
SEGMENTATION = METRICS / "segmentation.json"
REPORT = Path("report")
NEEDS = Path("data/second/needs.json")  # digests of what second-round models take of base models
WORK = Path("data/work")
RUNNING = WORK / "running"  # a file for each stage whose kill would be told
CODE = WORK / "code.json"  # digests of the code, kept


class NetworkLayout(NamedTuple):
    """Where networks of one kind of member have their files; {} stand for the member's name and the fold."""

    folder: str
    predictions: str


class Layout(NamedTuple):
    """Where members of one kind have their files; {} stands for the member's name.

    ``learnt`` lies below ``folder``, ``scores`` and ``curves`` (of networks) below ``METRICS``. What base and
    second-round models have learnt are their networks.
    """

    folder: str
    predictions: str
    scores: str
    learnt: str
    curves: str = ""


NETWORKS = {
    "base model": NetworkLayout("models/networks/{}/{}", "data/network_predictions/{}/{}"),
    "second round": NetworkLayout("models/second/{}/networks/{}", "data/second_networks/{}/{}"),
}
MEMBERS = {
    "base model": Layout("models/base/{}", "data/predictions/{}", "score/{}", "", "train/{}"),
    "second round": Layout("models/second/{}", "data/second/{}", "second/{}", "", "second/{}"),
    "stacker": Layout("models/stackers/{}", "data/stacked/{}", "stack/{}", "folds"),
    "blend": Layout("models/ensemble", "data/ensemble", "blend", "blend.json"),
}


def view(name: str) -> Path:
    """Which part of each image a second-round model sees."""
    return Path(f"data/views/{name}.parquet")


def found_boxes(name: str) -> Path:
    """The same where the networks that it begins with say it; no file: ``view``."""
    return Path(f"data/second_networks/{name}/boxes.parquet")


def found_heat(name: str) -> Path:
    """Where those networks look in the rows of the second level; no file: no such networks."""
    return found_boxes(name).with_name("heat.npz")


def fit_rows(fold: str) -> Path:
    """Which rows of train the networks of a fold learn from, and which are held out."""
    return FOLDS / "fit" / f"{fold}.parquet"


def predicted_rows(fold: str) -> Path:
    """Which rows the networks of a fold predict, besides the test split."""
    return FOLDS / "predict" / f"{fold}.parquet"


def of_photos(path: Path, into: str) -> Path:
    """Where something lies that is of photos; ``into`` is ``dataset.into``, ``data`` where photos are the rows."""
    return Path(into) / path.relative_to("data")


def segmenter(name: str, fold: str) -> Path:
    """The folder of a segmenter that did not learn from a fold of the photos."""
    return Path(f"models/segmenters/{name}/{fold}")


def regions(split: str) -> Path:
    """The regions that segmenters found in the photos of a split."""
    return Path(f"data/regions/{split}.parquet")


def masks_file(directory: str) -> Path:
    """The file of masks that is handed in, in ``submission.directory``."""
    return Path(directory) / "masks.csv"


def attribute_rule(directory: str) -> Path:
    """When attributes stand in the file of masks, beside it."""
    return Path(directory) / "attribute_rule.json"


def manifest(split: str) -> Path:
    """The manifest of one split."""
    return Path(f"data/manifest/{split}.parquet")


def shards(split: str) -> Path:
    """The folder of a split's shards."""
    return Path(f"data/images/{split}")


def members(kind: str) -> Path:
    """What the next level is told of the ``base_models``, of the ``second_round`` or of the ``stackers``."""
    return Path(f"data/members/{kind}.json")


def work(stage: str, name: str, digest: str) -> Path:
    """Unfinished work that survives a kill: out of DVC's sight, keyed by what it is made from."""
    return WORK / stage / name / digest
