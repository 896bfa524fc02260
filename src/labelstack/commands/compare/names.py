"""What a name given to `labelstack compare` means: files here, a registry version, a git revision or an MLflow run."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from labelstack.registry import versions as registry
from labelstack.stages.common import ROOT, tracking_here
from labelstack.support.errors import UserError
from labelstack.tracking import lineage, store
from labelstack.tracking.runs import CONTINUES_TAG, Tracker, connect, runs_of_experiment

if TYPE_CHECKING:
    from dvc.repo import Repo
    from mlflow.entities import Run

WORKSPACE, CHAMPION = "workspace", f"@{registry.CHAMPION}"
EXPERIMENT_TAG = lineage.EXPERIMENT
Kind = Literal["workspace", "version", "rev", "run"]
_VERSION = re.compile(r"models:/.+|(?:[^/@:]+/)?v?[1-9]\d*|[^/@:]*@[\w.-]+")
_RUN_ID = re.compile(r"[0-9a-f]{6,32}")
_SHOWN = 12


@dataclass(frozen=True)
class Found:
    """A name and what it stands for: a ModelVersion, a commit's SHA, an MLflow run; None for the files here."""

    name: str
    kind: Kind
    what: Any = None


class Names:
    """Places where names may be found; each is opened when a name needs it.

    Attributes
    ----------
    notes : list of str
        What should be said about how names were taken.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._continued: dict[str, dict[str, Run]] = {}

    @property
    def tracker(self) -> Tracker:
        """The tracking store of ./params.yaml (or MLFLOW_TRACKING_URI), only read; ``UserError`` without one."""
        if isinstance(self._opened, UserError):
            raise self._opened
        return self._opened

    @cached_property
    def _opened(self) -> Tracker | UserError:
        """An unreachable server costs its seconds once."""
        try:
            return connect(tracking_here(), ROOT, create=False)
        except UserError as error:
            return error

    @cached_property
    def repo(self) -> Repo | None:
        """The git and DVC repository of this folder, None where there is none."""
        from dvc.exceptions import DvcException
        from dvc.repo import Repo
        from dvc.scm import NoSCM

        try:
            repo = Repo(str(ROOT))
        except DvcException:
            return None
        return None if isinstance(repo.scm, NoSCM) else repo

    def find(self, names: list[str]) -> list[Found]:
        """What every name stands for.

        In this order: the word ``workspace``, a registry version, a git revision or DVC experiment, an MLflow run.
        ``version:``, ``rev:`` and ``run:`` before a name leave only that.

        Raises
        ------
        UserError
            With all names that stand for nothing, the nearest ones, and what there is.
        """
        found, problems = [], []
        for name in names:
            try:
                found.append(self._find(name))
            except UserError as error:
                problems.append(str(error))
        if problems:
            lines = [*problems, *(f"there are {what}" for what in self._inventory())]
            noun = "name was" if len(problems) == 1 else "names were"
            raise UserError(f"compare: {len(problems)} {noun} not found\n" + "\n".join(f"  - {line}" for line in lines))
        return found

    def _find(self, name: str) -> Found:
        if name == WORKSPACE:
            return Found(name, "workspace")
        prefix, colon, rest = name.partition(":")
        ways: dict[str, Callable[[str], Any]] = {"version": self._version, "rev": self._revision, "run": self._run}
        if colon and prefix in ways:
            ways, text = {prefix: ways[prefix]}, rest
        else:
            text = name
            if not _VERSION.fullmatch(text):
                ways.pop("version")
        for kind, way in ways.items():
            if (what := way(text)) is not None:
                if kind == "version" and text == name and self._revision(text):
                    self.notes.append(f"{text} is taken for a registry version; rev:{text} is the git revision")
                return Found(name, kind, what)  # type: ignore[arg-type]
        tried = {"version": "registry version", "rev": "git revision or DVC experiment", "run": "MLflow run"}
        nearest = difflib.get_close_matches(text, self._names(), n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(nearest)}?" if nearest else ""
        raise UserError(f"{name}: no {', no '.join(tried[kind] for kind in ways)} of that name{hint}")

    def _version(self, text: str) -> Any:
        tracker = self.tracker  # an unreachable store is said as it is
        try:
            return registry.resolve(tracker, text)
        except UserError:
            return None

    def _revision(self, text: str) -> str | None:
        """The SHA of a branch, tag, commit or DVC experiment."""
        from dvc.scm import RevError, resolve_rev

        if self.repo is None or not text:
            return None
        try:
            return str(resolve_rev(self.repo.scm, text))
        except RevError as error:
            if "ambiguous" in str(error):
                raise UserError(f"{text}: several DVC experiments have that name; give the commit instead") from None
            return None

    def _run(self, text: str) -> Run | None:
        """A run by its id or the start of it, by its name, or the blend of a DVC experiment; the latest that fits."""
        if _RUN_ID.fullmatch(text):
            runs = self.search(f"attributes.run_id LIKE '{text}%'")
            if len(runs) > 1:
                ids = ", ".join(run.info.run_id[:12] for run in runs[:_SHOWN])
                raise UserError(f"{text}: {len(runs)} MLflow runs begin so ({ids}); give more digits")
            if runs:
                return runs[0]
        quote = '"' if "'" in text else "'"  # the filter language knows no escapes
        named = [f"attributes.run_name = {quote}{text}{quote}"]
        named.append(f"tags.`{EXPERIMENT_TAG}` = {quote}{text}{quote} AND tags.`labelstack.stage` = 'blend'")
        for wanted in named:
            runs = self.search(wanted)
            if runs:
                return next((run for run in runs if run.info.status == "FINISHED"), runs[0])
        return None

    def search(self, wanted: str, limit: int = 100) -> list[Run]:
        """Runs of the experiment that a filter lets through, the latest first."""
        if not self.tracker.experiment_id:
            return []
        with store.explained(self.tracker.uri, "look for runs"):
            found = self.tracker.client.search_runs(
                [self.tracker.experiment_id], wanted, order_by=["attributes.start_time DESC"], max_results=limit
            )
        return list(found)

    def run(self, run_id: str) -> Run:
        """A run by its whole id; ``UserError`` when it is not in the store."""
        with store.explained(self.tracker.uri, f"read the run {run_id}"):
            return self.tracker.client.get_run(run_id)

    def run_within(self, experiment: str | None, run_id: str) -> Run:
        """A run, or the one in which a DVC experiment went on with it."""
        if experiment and experiment not in self._continued:
            runs = runs_of_experiment(self.tracker, experiment)
            self._continued[experiment] = {run.data.tags.get(CONTINUES_TAG, ""): run for run in runs}
        return self._continued.get(experiment or "", {}).get(run_id) or self.run(run_id)

    def experiment_names(self, sha: str) -> list[str]:
        """Names of DVC experiments whose result is this commit."""
        from dvc.repo.experiments.utils import exp_refs

        if self.repo is None:
            return []
        scm = self.repo.scm
        return sorted({ref.name for ref in exp_refs(scm) if ref.name and scm.get_ref(str(ref)) == sha})

    def _inventory(self) -> Iterator[str]:
        """Sentences about what could have been named; what can't be asked is left out."""
        for what, names in self._known.items():
            if names:
                more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                yield f"{what}: {', '.join(names[:_SHOWN])}{more}"
        yield "the files here: workspace"

    def _names(self) -> list[str]:
        return [WORKSPACE, *(name for names in self._known.values() for name in names)]

    @cached_property
    def _known(self) -> dict[str, list[str]]:
        known: dict[str, list[str]] = {}
        with _quietly():
            model = self.tracker.registered_model
            with store.explained(self.tracker.uri, "list versions"):
                versions = registry.all_versions(self.tracker, model)
                aliases = self.tracker.client.get_registered_model(model).aliases if versions else {}
            known["registry versions"] = [str(v.version) for v in reversed(versions)] + [f"@{a}" for a in aliases]
        if self.repo is not None:
            from dvc.repo.experiments.utils import exp_refs

            scm = self.repo.scm
            known["DVC experiments"] = sorted({ref.name for ref in exp_refs(scm) if ref.name})
            known["git branches and tags"] = [*scm.list_branches(), *scm.list_tags()]
        with _quietly():
            known["MLflow runs"] = sorted({run.info.run_name for run in self.search("", 1000) if run.info.run_name})
        return known


@contextmanager
def _quietly() -> Iterator[None]:
    """For a message about something else: a store that does not answer adds nothing to it."""
    try:
        yield
    except UserError:
        return
