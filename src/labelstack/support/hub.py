"""Files on the Hugging Face Hub that params name: ``hf://<owner>/<repository>[/<file>.safetensors][@<revision>]``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from labelstack.support.errors import UserError

SCHEME = "hf://"
_PART = r"[A-Za-z0-9][\w.-]*"
_FORM = re.compile(
    rf"hf://(?P<repository>{_PART}/{_PART})(?:/(?P<file>(?:{_PART}/)*{_PART}\.safetensors))?(?:@(?P<revision>{_PART}(?:/{_PART})*))?"
)


class HubFile(NamedTuple):
    """A file of a repository; a revision is a branch, a tag or a commit."""

    repository: str
    file: str = "model.safetensors"
    revision: str | None = None

    def path(self) -> Path:
        """Where the file lies here, fetched if it is not in the cache of huggingface_hub.

        Raises
        ------
        UserError
            When it cannot be had.
        """
        import huggingface_hub

        try:
            return Path(huggingface_hub.hf_hub_download(self.repository, self.file, revision=self.revision))
        except Exception as error:  # of the library, of HTTP, of the connection, of the disk
            reason = str(error).strip().split("\n")[0][:300]
            at = f"@{self.revision}" if self.revision else ""
            raise UserError(
                f"weights: {SCHEME}{self.repository}/{self.file}{at}: could not be had ({type(error).__name__}: "
                f"{reason}). Without a connection, fetch {self.file} of {self.repository} elsewhere, and set weights "
                "to its path"
            ) from error


def hub_file(text: str) -> HubFile | None:
    """The file that a text names; None where it is no ``hf://`` address of the form above."""
    match = _FORM.fullmatch(text)
    if match is None or ".." in text:
        return None
    return HubFile(**{key: value for key, value in match.groupdict().items() if value is not None})
