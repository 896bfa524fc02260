"""What a format of data sets offers: our own files beside this one do, and what a plug-in's entry point names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from labelstack.params.dataset import FORMATS, DatasetSection
from labelstack.params.folds import FoldsSection
from labelstack.support.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from labelstack.formats.submission import Form


@dataclass(frozen=True)
class CompetitionData:
    """A whole data set.

    Attributes
    ----------
    manifests : split -> DataFrame[image_id int64, url list of str, label_id list of int (None in test)] and, where ids
        stand for texts, name; where a row knows one label group alone, known (the group) and maybe (lists of further
        labels that may be true)
    labels : DataFrame[label_id int32, name, group, n_train, n_validation], ascending by label_id
    submission : header and row order of the file to hand in
    counts : what was read, for metrics
    answers : true labels of test images that the data set itself holds, DataFrame[image_id int64, label_id list of
        int]; None: only ``dataset.answers`` may name some
    columns : split -> column -> cells in the manifest's order: what ``folds`` names of a format with further columns
    instances : of a format with masks, the instances of the train photos (``masks/instance_table.py``)
    """

    manifests: dict[str, pd.DataFrame]
    labels: pd.DataFrame
    submission: Form
    counts: dict[str, Any]
    answers: pd.DataFrame | None = None
    columns: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    instances: pa.Table | None = None


class Draw(Protocol):
    """Chooses rows for a split that nobody named; the same arguments give the same rows."""

    def __call__(
        self, Y: NDArray[np.bool_], share: float, number: int, source: NDArray[np.str_] | None
    ) -> NDArray[np.bool_]:
        """About a share of the rows, bool [n].

        Parameters
        ----------
        Y : bool [n, n_labels]
        share : 0 … 1
        number : of the draw, from 0: a data set may need two
        source : str [n], what belongs together and is drawn together; None: every row stands alone
        """


class Format(Protocol):
    """A module with these functions, or an object with these methods.

    A format with params of its own, splits to draw or further columns has ``configured(dataset, draw, folds)`` besides,
    which gives the format for these params: the section ``dataset``, and where it is to read a ``Draw`` and the
    section ``folds``, whose ``columns`` it hands on. One whose competition asks for probabilities has
    ``write_probabilities(path, form, label_id, P)``, which the stage `submit` calls in the place of
    ``write_submission``: int [n_labels] and float [n, n_labels], a row for each image of the form.

    Attributes
    ----------
    REQUIRED : names of the files that a data set must have
    OPTIONAL : names of the files that it may have -> what for
    """

    REQUIRED: Sequence[str]
    OPTIONAL: Mapping[str, str]

    def missing_files(self, root: str | Path) -> list[str]:
        """A sentence for each file of a data set that is not in its folder; nothing is read."""

    def read(self, root: str | Path, label_ids: tuple[int, int] | None, folds: int) -> CompetitionData:
        """Read and check a data set; raise ``InputProblems`` with every problem of every file.

        Parameters
        ----------
        root : ``dataset.root``
        label_ids : ``dataset.label_ids``, first and last label id that may occur; None: the data say which
        folds : so many folds the validation images will be dealt to, at least one to each
        """

    def answers(self, path: str | Path, labels: pd.DataFrame) -> pd.DataFrame:
        """True labels of test images, DataFrame[image_id int64, label_id list of int]; raise ``InputProblems``.

        Parameters
        ----------
        path : ``dataset.answers``
        labels : the label table; only its ids may occur
        """

    def write_submission(self, path: str | Path, form: Form, labels: Sequence[Iterable[int]]) -> None:
        """Write the file to hand in, whole or not at all; equal labels give equal bytes.

        Parameters
        ----------
        labels : label ids of each image of ``form``, in its order
        """


def format_of(name: str) -> Format:
    """The format that ``dataset.format`` names; raise ``UserError`` when a plug-in lacks what a format offers."""
    found: Format = FORMATS.load(name)
    wanted = [word for word in (*Format.__annotations__, *vars(Format)) if not word.startswith("_")]
    if lacking := [word for word in wanted if not hasattr(found, word)]:
        raise UserError(f"format {name} = {FORMATS.reference(name)} ({FORMATS.group}): lacks {', '.join(lacking)}")
    return found


def format_for(dataset: DatasetSection, draw: Draw | None = None, folds: FoldsSection | None = None) -> Format:
    """The format of a data set, told its params where it has some of its own."""
    found = format_of(dataset.format)
    configured = getattr(found, "configured", None)
    return found if configured is None else configured(dataset, draw, folds or FoldsSection())
