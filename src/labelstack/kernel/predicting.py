"""From found weights to a submission: images, networks, stackers, blend and rule, as the pipeline has them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labelstack.compute.worker import package_versions
from labelstack.ensemble.folder import Spec, read_spec
from labelstack.ensemble.machine import differences, machine
from labelstack.ensemble.recompute import Members, ensemble_predictions
from labelstack.formats.submission import write_submission
from labelstack.formats.text_submission import write_texts
from labelstack.kernel.contents import Contents
from labelstack.kernel.finished_parts import FinishedParts
from labelstack.kernel.image_files import sample_form, wanted_images
from labelstack.kernel.registered_rows import kept_order, registered_form
from labelstack.kernel.smaller import Smaller, read_smaller
from labelstack.kernel.stored_images import store_images
from labelstack.stacking.deciding.decisions import Decision
from labelstack.stacking.deciding.image_answers import image_answers
from labelstack.support.quiet import load_tensorflow
from labelstack.support.storage import sha256


@dataclass(frozen=True)
class Typed:
    """What was typed.

    Attributes
    ----------
    test : folder of the test images
    out : the submission's file
    work : folder of unfinished work
    sample : a sample submission; None: the registered rows
    limit : seconds after ``started``, on the clock of ``time.monotonic``, in which to be done; None: no limit
    """

    test: Path
    out: Path
    work: Path
    sample: Path | None = None
    limit: float | None = None
    started: float = 0.0


def write_predicted(contents: Contents, ensemble: Path, typed: Typed, say: Callable[[str], None]) -> None:
    """Predict a test folder with the ensemble in a folder and write its submission.

    Parameters
    ----------
    say : tells a sentence
    """
    spec = read_spec(ensemble)
    smaller = None if typed.limit is None else read_smaller(ensemble, spec)
    registered = registered_form(ensemble, contents.submission, spec)
    form = registered if typed.sample is None else sample_form(typed.sample, registered)
    wanted = wanted_images(form, kept_order(ensemble), typed.test, contents.shard_rows)
    load_tensorflow()
    if contents.machine and (other := differences(contents.machine, machine())):
        say(f"other machine than at registration, so last bits may differ ({'; '.join(other)})")
    images, key = typed.work / "images", f"{contents.source} {package_versions()}"
    statuses = store_images(wanted, spec.settings, images, f"{key} {spec.settings}")
    say(f"{statuses.count('ok'):,} of {len(statuses):,} images are there{_counted(statuses)}")
    parts = FinishedParts(contents, ensemble, images, typed.work / "parts", key)
    whole = True
    if smaller is not None and typed.limit is not None:
        specs = [spec, *smaller.specs]
        place = parts.within(typed.limit, specs, lambda: time.monotonic() - typed.started)
        say(_left_out(specs, place, smaller))
        spec, whole = specs[place], place == 0
    blended = ensemble_predictions(Members.of(ensemble, spec), spec, parts.predictions(spec))
    unseen = np.zeros(len(spec.label_id), bool)
    unseen[list(contents.unseen)] = True
    chosen, missing = image_answers(blended, Decision.from_dict(spec.decision), form.image_id, unseen)
    label_id = np.array(spec.label_id)
    write = write_submission if form.texts is None else write_texts
    write(typed.out, form, [label_id[row].tolist() for row in chosen])
    digest = sha256(typed.out)
    if form is registered and whole:
        as_recorded = digest == contents.submission["sha256"]
        digest += ", as registered" if as_recorded else f"; registered was {contents.submission['sha256']}"
    say(f"{len(form.image_id):,} rows, {missing:,} of them answered without an image → {typed.out} (SHA-256 {digest})")


def _left_out(specs: Sequence[Spec], place: int, smaller: Smaller) -> str:
    """What a limit of time costs, in a sentence."""
    if place == 0:
        return "all networks and views within the time"
    gone = [name for name in specs[0].needed_models if name not in specs[place].needed_models]
    gone += [name for name in specs[0].needed_stackers if name not in specs[place].needed_stackers]
    without = f", without {', '.join(gone)}" if gone else ""
    scores = f"{smaller.metric} cross-fitted {smaller.scores[place - 1]:.4f} in the place of {smaller.whole:.4f}"
    return f"time is short: the first test-time view of each network alone{without}; {scores}"


def _counted(statuses: Sequence[str]) -> str:
    others = {status: statuses.count(status) for status in sorted(set(statuses) - {"ok"})}
    return f" ({', '.join(f'{count} {status}' for status, count in others.items())})" if others else ""
