"""A task: a function over jobs of JSON's types, and how it runs in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from labelstack.support.progress import bar

Job = dict[str, Any]
JobFunction = Callable[[Job], Any]
Files = Callable[[Job], Iterable[str | Path]]


class Map(Protocol):
    """What ``Engine.map`` and ``run_here`` have in common, for rooms that take one as an argument."""

    def __call__(
        self, function: JobFunction, jobs: Sequence[Job], *, desc: str = "", reads: Files = ..., writes: Files = ...
    ) -> Iterator[Any]:
        """Results in the order of the jobs."""


def no_files(job: Job) -> Iterable[str | Path]:
    """A task that reads or writes no files."""
    return ()


def plain(content: Any) -> Any:
    """What is left of a value on its way to another machine and back: JSON's types; raise ``TypeError`` on others."""
    return json.loads(json.dumps(content))


def run_here(
    function: JobFunction, jobs: Sequence[Job], *, desc: str = "", reads: Files = no_files, writes: Files = no_files
) -> Iterator[Any]:
    """Run a function over jobs in this process, one by one; see ``Engine.map``."""
    for job in bar(jobs, desc=desc, unit="task") if len(jobs) > 1 else jobs:
        yield plain(function(plain(job)))
