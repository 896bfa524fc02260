"""Errors that are the user's to mend: shown as text with a non-zero exit code, never as a traceback."""

from collections.abc import Sequence

_SHOWN = 50


class UserError(Exception):
    """A mistake in input, params or surroundings; the message says what was expected and what to do."""


class InputProblems(UserError):
    """All problems found in one input, reported together.

    Parameters
    ----------
    source : str
        The file or section that was read.
    problems : sequence of str
        One sentence each: record, key, what was expected, what was found.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = list(problems)
        shown = [f"  - {problem}" for problem in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            shown.append(f"  … and {len(self.problems) - _SHOWN} more")
        noun = "problem" if len(self.problems) == 1 else "problems"
        super().__init__(f"{source}: {len(self.problems)} {noun}\n" + "\n".join(shown))
