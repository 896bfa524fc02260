"""Where tasks run: in this process, or on an existing Dask cluster; one code path, the same bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from labelstack.compute.jobs import Files, Job, JobFunction, no_files, run_here
from labelstack.params.engine import EngineSection

if TYPE_CHECKING:
    from labelstack.compute.cluster import Cluster


class Engine:
    """Runs tasks where ``engine`` of params.yaml says; close it, or use it as a context manager.

    Parameters
    ----------
    settings : EngineSection
    workspace : Path, optional
        The folder of dvc.yaml, from which paths in jobs start; this process must run in it. None: where it runs now.
    """

    def __init__(self, settings: EngineSection, workspace: str | Path | None = None) -> None:
        self.settings = settings
        self.workspace = Path(os.path.abspath(workspace or "."))
        self._cluster: Cluster | None = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def local(self) -> bool:
        """Whether tasks run in this process."""
        return self.settings.scheduler is None

    def map(
        self,
        function: JobFunction,
        jobs: Sequence[Job],
        *,
        desc: str = "",
        reads: Files = no_files,
        writes: Files = no_files,
    ) -> Iterator[Any]:
        """Run a function over jobs, here or on the cluster.

        Parameters
        ----------
        function : callable
            Of a module of labelstack, at its top level. It must give the same files and result wherever and however
            often it runs, and write files under temporary names (``storage.replacing``): a task whose worker died runs
            again, perhaps beside itself.
        jobs : sequence of dict
            The function's one argument: numbers, texts, lists and dicts. Paths in it are relative to the workspace;
            absolute ones below it are made so for workers.
        desc : str
            For the progress bar.
        reads, writes : callables
            A job's input and output files and folders, relative to the workspace. Workers that share no file system
            are sent the former and send back the latter.

        Returns
        -------
        iterator
            Results, of JSON's types, in the order of the jobs; jobs are sent as results are taken.

        Raises
        ------
        UserError
            What the function raises as such; when scheduler or workers cannot be reached, run another version, do not
            see the workspace, or die again and again.
        """
        if self.local:
            return run_here(function, jobs, desc=desc, reads=reads, writes=writes)
        return self._on_cluster(function, jobs, desc, reads, writes)

    def close(self) -> None:
        """Leave the cluster; tasks that nobody waits for any more are dropped."""
        if self._cluster is not None:
            self._cluster.close()
        self._cluster = None

    def _on_cluster(
        self, function: JobFunction, jobs: Sequence[Job], desc: str, reads: Files, writes: Files
    ) -> Iterator[Any]:
        if not jobs:
            return
        if self._cluster is None:
            from labelstack.compute.cluster import Cluster

            self._cluster = Cluster(self.settings, self.workspace)
        yield from self._cluster.map(function, jobs, desc, reads, writes)
