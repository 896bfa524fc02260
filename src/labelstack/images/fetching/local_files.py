"""A digest over the local files that a data set's URLs name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from labelstack.images.fetching.policy import Policy
from labelstack.images.fetching.status import RefusedError
from labelstack.params.images import ImagesSection
from labelstack.support.progress import bar


def local_digest(urls: Iterable[Sequence[str]], root: Path) -> str | None:
    """32 hex digits over names and bytes of the files that ``file:`` URLs name; None when no URL does.

    Parameters
    ----------
    urls : the URLs of each image
    root : the data set's folder; what lies outside it counts as absent
    """
    policy = Policy(ImagesSection(allow_schemes=["file"]), root)
    named = [url for row in urls for url in row if url[:5].lower() == "file:"]
    if not named:
        return None
    whole, parents = hashlib.blake2b(digest_size=16), dict[str, str]()
    for url in bar(named, desc="local files", unit="file"):
        whole.update(f"{len(url)} {url} ".encode())
        whole.update(_content(policy, url.strip(), parents))
    return whole.hexdigest()


def _content(policy: Policy, url: str, parents: dict[str, str]) -> bytes:
    try:
        path = policy.local_path(url, parents)
        if path is None or not path.is_file():
            return b"absent"
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
    except RefusedError:  # a name that no file can have
        return b"absent"
    except OSError:
        return b"unreadable"
