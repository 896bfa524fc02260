"""Whether an ensemble from the registry still predicts what it predicted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from labelstack.ensemble import machine, record
from labelstack.ensemble.folder import Spec, read_spec
from labelstack.ensemble.found_in_photos import Finder, load_finder, pixels_apart, recorded_masks, same_masks
from labelstack.ensemble.recompute import Floats, Ids, Members, blended, probe_predictions, test_cube
from labelstack.ensemble.region_form import RegionForm
from labelstack.masks.region_table import read_regions
from labelstack.params.blend import BLEND
from labelstack.predictions import Predictions, answered, read_predictions
from labelstack.stacking.deciding.decisions import Decision
from labelstack.support.errors import UserError
from labelstack.support.logits import as_kept
from labelstack.support.progress import bar

# On another processor sums run in another order and logarithms end in another last bit: 1e-7 of a probability, which
# whatever is built on it may amplify. Other weights, or another member in its place, differ by far more.
TOLERANCE = 1e-4
# Share of the images whose labels may differ there: those with a probability next to a threshold.
LABELS_TOLERANCE = 0.01


@dataclass(frozen=True)
class AgreementRow:
    """One line of the comparison.

    Attributes
    ----------
    member : a name or ``blend``
    kind : ``segmenters``, ``base model``, ``second round``, ``stacker``, ``blend`` or ``label sets``
    images : how many were compared
    difference : the largest absolute one of probabilities; of label sets the number of images that differ, of
        segmenters the largest share of a photo's pixels with another category. None when
        there is nothing to compare.
    problem : empty when it passes
    """

    member: str
    kind: str
    images: int
    difference: float | None
    problem: str = ""


@dataclass(frozen=True)
class Agreement:
    """What came out of ``recompute``.

    Attributes
    ----------
    rows : segmenters, base models, stackers, the blend and its label sets, in this order
    exact : whether not a bit may differ, because machine and packages are the recorded ones
    other : what differs between the machines, in words
    """

    rows: list[AgreementRow]
    exact: bool
    other: list[str]

    @property
    def problems(self) -> list[str]:
        """A sentence for every row that does not pass."""
        return [f"{row.kind} `{row.member}`: {row.problem}" for row in self.rows if row.problem]


def recompute(
    folder: Path,
    members: Members | None = None,
    here: Mapping[str, str] | None = None,
    finder: Finder | None = None,
) -> Agreement:
    """Let every member predict again and compare with the record: all of them, whatever one does.

    Base models predict the probe images, in the same batches. Stackers, blend and decision rule take all test images,
    never a part (the last bits of a matrix product may depend on the number of rows), from the base models' recorded
    predictions. On the recorded machine with the recorded packages not a bit may differ; elsewhere probabilities by at
    most ``TOLERANCE``, and the labels of at most ``LABELS_TOLERANCE`` of the images. Segmenters find the regions of the
    probe photos again: the same runs, categories and scores; elsewhere the same category in all but
    ``LABELS_TOLERANCE`` of the pixels.

    Parameters
    ----------
    folder : Path
        Of an ensemble with a record.
    members : Members, optional
        Default: those in the folder.
    here : mapping, optional
        Default: this machine.
    finder : function of stored photos, optional
        What finds their regions; default: the segmenters in the folder.

    Raises
    ------
    UserError
        When the folder's spec, the probe images or the machine's description can't be read.
    """
    spec = read_spec(folder)
    run = members or Members.of(folder, spec)
    probe = record.read_probe(folder)
    other = machine.differences(record.read_machine(folder), here or machine.machine())
    compare = _Compare(folder, exact=not other)
    if spec.regions is not None:
        compare.regions(spec.regions, finder)
    for name in bar(list(spec.views), desc="verify models", unit="model"):
        kind = "second round" if name in spec.second_round else "base model"
        boxes = record.read_boxes(folder, name)
        compare(kind, name, probe.image_id, partial(probe_predictions, run, spec, probe, name, boxes))
    try:
        recorded = {name: compare.recorded(name) for name in spec.views}
        image_id, cube = test_cube(spec, recorded)
        answers: dict[str, Floats] = {name: one.rows_of(image_id) for name, one in recorded.items()}
    except UserError as error:
        compare.impossible("stacker", spec.stackers, f"the base models' recorded predictions can't be read: {error}")
        compare.impossible("blend", [BLEND], "there are no recorded predictions of all base models")
        return Agreement(compare.rows, not other, other)
    for name in bar(spec.stackers, desc="verify stackers", unit="stacker"):
        answer = compare("stacker", name, image_id, partial(_stacked, run, spec, name, cube))
        if answer is not None:
            answers[name] = answer
    whole = compare("blend", BLEND, image_id, partial(_blended, spec, answers))
    if whole is not None and compare.rows[-1].difference is not None:
        compare.labels(spec, image_id, whole)
    return Agreement(compare.rows, not other, other)


class _Compare:
    """Compares answers one by one with what was recorded, and keeps a row of each."""

    def __init__(self, folder: Path, *, exact: bool) -> None:
        self.folder, self.exact = folder, exact
        self.rows: list[AgreementRow] = []

    def recorded(self, name: str) -> Predictions:
        return read_predictions(record.predictions_file(self.folder, name))

    def impossible(self, kind: str, names: Iterable[str], why: str) -> None:
        self.rows += [AgreementRow(name, kind, 0, None, why) for name in names]

    def __call__(self, kind: str, name: str, image_id: Ids, predict: Callable[[], Floats]) -> Floats | None:
        """Compare; the member's answer, or None when it gave none."""
        answer = None
        try:
            answer = predict()
            recorded = self.recorded(name).rows_of(image_id)
            if recorded.shape != answer.shape:
                raise UserError(f"predicts {answer.shape[1]} labels, recorded are {recorded.shape[1]}")
        except Exception as error:  # whatever one member does, the others are compared
            self.impossible(kind, [name], str(error).split("\n")[0] or type(error).__name__)
            return answer
        shown = answered(recorded)
        some = kind in ("base model", "second round") and not shown.all()
        recorded, said = recorded[shown], answer[shown].astype(np.float64)
        if not (np.isnan(recorded) == np.isnan(said)).all():
            self.impossible(kind, [name], "knows other labels than recorded")
            return answer
        apart = np.nan_to_num(np.abs(said - recorded)).max(axis=1, initial=0)
        difference = float(apart.max(initial=0))
        problem = ""
        # Probe images are the first batches of all; a model of some label groups saw its rows in batches of their own.
        if not difference <= (0 if self.exact and not some else TOLERANCE):
            problem = f"{int((apart > 0).sum())} of {len(apart)} images differ, by up to {difference:.2g}"
        self.rows.append(AgreementRow(name, kind, len(apart), difference, problem))
        return answer

    def regions(self, form: RegionForm, finder: Finder | None) -> None:
        """Compare the regions of the probe photos with those that were found."""
        try:
            kept = record.read_photos(self.folder)
            find, probe = finder or load_finder(self.folder, form), kept.probe
            places = [np.flatnonzero(probe.batch == number) for number in np.unique(probe.batch)]
            found = [one for rows in places for one in find([probe.jpeg[row] for row in rows.tolist()])]
            table = read_regions(kept.regions, probe.image_id)
        except Exception as error:  # whatever segmenters do, the others are compared
            self.impossible("segmenters", ["regions"], str(error).split("\n")[0] or type(error).__name__)
            return
        before = [recorded_masks(table, int(photo)) for photo in probe.image_id]
        differ = sum(not same_masks(*pair) for pair in zip(before, found, strict=True))
        size = form.found.size
        apart = max((pixels_apart(*pair, size) for pair in zip(before, found, strict=True)), default=0.0)
        problem = ""
        if differ and (self.exact or apart > LABELS_TOLERANCE):
            problem = f"{differ} of {len(found)} photos have other regions, in up to {apart:.2%} of the pixels"
        self.rows.append(AgreementRow("regions", "segmenters", len(found), apart, problem))

    def labels(self, spec: Spec, image_id: Ids, whole: Floats) -> None:
        """Compare the label sets of a blend with those of the recorded one."""
        decide = Decision.from_dict(spec.decision).decide
        differ = int((decide(whole) != decide(self.recorded(BLEND).rows_of(image_id))).any(axis=1).sum())
        allowed = 0 if self.exact else math.ceil(LABELS_TOLERANCE * len(image_id))
        problem = f"{differ} of {len(image_id)} images get other labels" if differ > allowed else ""
        self.rows.append(AgreementRow(BLEND, "label sets", len(image_id), differ, problem))


def _stacked(members: Members, spec: Spec, name: str, cube: Floats) -> Floats:
    return as_kept(members.stacker(name)(cube), spec.settings.dtype)


def _blended(spec: Spec, answers: Mapping[str, Floats]) -> Floats:
    silent = [name for name, weight in spec.weights.items() if weight and name not in answers]
    if silent:
        raise UserError(f"nothing to blend: no answer of {', '.join(silent)}")
    return blended(spec, answers)
