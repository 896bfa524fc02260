"""Bytes of images given in any way: a path, a web or S3 URL, base64, or the bytes themselves."""

from __future__ import annotations

import base64
import binascii
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from labelstack.ensemble.regular_file import opened_folders, read_regular
from labelstack.images.fetching.status import reason
from labelstack.params.images import ImagesSection
from labelstack.params.messages import explain
from labelstack.support.cores import cores
from labelstack.support.errors import InputProblems, UserError

if TYPE_CHECKING:
    from labelstack.ensemble.remote_images import Fetching

MAX_IMAGE_BYTES = 100_000_000
FETCH_KEYS = (
    "concurrency",
    "concurrency_per_host",
    "http2",
    "connect_timeout_s",
    "first_byte_timeout_s",
    "timeout_s",
    "retries",
    "max_bytes",
    "max_decode_work",
    "max_decode_bytes",
    "allow_schemes",
    "allow_hosts",
    "s3_endpoint_url",
)
_LONGEST_PATH = 4096
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*):(?=//)|\s*(file):", re.IGNORECASE)
_FETCHED = frozenset({"http", "https", "s3"})
_NOTHING = frozenset({"NAType", "NaTType"})  # pandas' words for it, beside NaN
T = TypeVar("T")


def fetch_settings(images: ImagesSection) -> dict[str, Any]:
    """What an ensemble keeps of the section ``images``, to fetch images as the training data was fetched."""
    return images.model_dump(mode="json", include=set(FETCH_KEYS))


class ImageSources:
    """Reads images, many at a time; safe to share between threads.

    Web and S3 images go through labelstack's fetcher, with its checks of addresses, its limits and its retries.

    Parameters
    ----------
    images : ImagesSection
        Limits, allowed schemes and hosts.
    folders : sequence of Path, optional
        Folders below which local paths are read; none: no paths; None: any path.
    """

    def __init__(self, images: ImagesSection | None = None, *, folders: Sequence[Path] | None = None) -> None:
        images = images or ImagesSection()
        self.images = images.model_copy(update={"allow_schemes": sorted(_FETCHED & set(images.allow_schemes))})
        self.folders = folders
        self._lock = threading.Lock()
        self._process = 0
        self._workers: ThreadPoolExecutor
        self._fetching: Fetching | None = None

    @classmethod
    def from_settings(cls, fetch: Mapping[str, Any], *, served: bool = False) -> ImageSources:
        """Sources as ``fetch_settings`` kept them, and as the environment of this process says.

        ``LABELSTACK_ALLOW_HOSTS`` (``host`` or ``host:port``, with commas) opens hosts with private addresses;
        ``LABELSTACK_ALLOW_PATHS`` names the folders whose files are read, ``0`` stands for none. Where it is not set,
        a served ensemble reads no files, and any other all that its user may read.

        Raises
        ------
        UserError
            When ``LABELSTACK_ALLOW_PATHS`` names a folder that is not there.
        """
        try:
            images = ImagesSection(**{key: value for key, value in fetch.items() if key in FETCH_KEYS})
        except ValidationError as error:
            raise InputProblems("ensemble.json: settings.fetch", explain(error, ImagesSection)) from None
        hosts = [host.strip() for host in os.environ.get("LABELSTACK_ALLOW_HOSTS", "").split(",") if host.strip()]
        folders = opened_folders(os.environ.get("LABELSTACK_ALLOW_PATHS", ""))
        if folders is None and served:
            folders = []
        return cls(images.model_copy(update={"allow_hosts": [*images.allow_hosts, *hosts]}), folders=folders)

    def each(self, given: Sequence[Any], work: Callable[[bytes], T], deadline: float | None = None) -> list[Future[T]]:
        """Start to read images and to do ``work`` on the bytes of each, in threads.

        Parameters
        ----------
        given : sequence of str, path or bytes
        work : callable
        deadline : float, optional
            The moment of ``time.monotonic`` after which URLs are waited for no longer, and no work is begun.

        Returns
        -------
        list of Future
            In the order of ``given``; what is no image raises ``UserError`` with a sentence that may be shown.
        """
        with self._lock:
            self._start(any(_scheme(image) in _FETCHED for image in given))
        return [self._one(image, work, deadline) for image in given]

    def _one(self, image: Any, work: Callable[[bytes], T], deadline: float | None) -> Future[T]:
        scheme = _scheme(image)
        if not scheme:
            return self._workers.submit(self._local, image, work, deadline)
        if scheme in _FETCHED and self._fetching is not None:
            left = None if deadline is None else deadline - time.monotonic()
            return self._fetching.submit(image.strip(), _in_time(work, deadline), self._workers, left)
        refused: Future[T] = Future()
        advice = "give the path itself" if scheme == "file" and self.folders is None else "http, https and s3 are"
        refused.set_exception(UserError(f"{scheme}: URLs are not taken; {advice}"))
        return refused

    def _local(self, image: Any, work: Callable[[bytes], T], deadline: float | None) -> T:
        work = _in_time(work, deadline)
        data, of_file = _read_local(image, self.folders)
        try:
            return work(data)
        except UserError:
            raise
        except Exception as error:  # parsers of hostile input raise nearly everything
            if of_file:
                raise UserError(f"{shown(os.fsdecode(image))}: {reason(error)}") from None
            if isinstance(image, str) and len(image) < _LONGEST_PATH and not image.startswith("data:"):
                raise UserError(f"{shown(image)}: {_neither(self.folders)}") from None
            raise UserError(f"the given bytes: {reason(error)}") from None

    def _start(self, fetching: bool) -> None:
        if self._process != os.getpid():  # threads don't outlive a fork, so a child process gets its own
            self._workers = ThreadPoolExecutor(min(8, cores()), thread_name_prefix="images")
            self._fetching, self._process = None, os.getpid()
        if fetching and self._fetching is None:
            from labelstack.ensemble.remote_images import Fetching

            self._fetching = Fetching(self.images)
            weakref.finalize(self, self._fetching.stop)


def read_local(image: Any, *, folders: Sequence[Path] | None = None) -> bytes:
    """The bytes of an image file given as bytes, path, base64 or ``data:`` URL; raise ``UserError`` otherwise.

    ``folders`` are those below which paths are read, None: any.
    """
    return _read_local(image, folders)[0]


def _read_local(image: Any, folders: Sequence[Path] | None) -> tuple[bytes, bool]:
    """The bytes, and whether they are a file's."""
    of_file = False
    if isinstance(image, bytes | bytearray | memoryview):
        data = bytes(image)
    elif isinstance(image, str | os.PathLike):
        data, of_file = _file_or_base64(os.fsdecode(image), folders)
    elif image is None or type(image).__name__ in _NOTHING or (isinstance(image, float) and isnan(image)):
        raise UserError("no image is given")
    else:
        raise UserError(f"expected a path, a URL, base64 or bytes, not {type(image).__name__}")
    if not data:
        raise UserError("the image is empty")
    if len(data) > MAX_IMAGE_BYTES:
        raise UserError(f"the image is larger than {MAX_IMAGE_BYTES} bytes")
    return data, of_file


def _in_time(work: Callable[[bytes], T], deadline: float | None) -> Callable[[bytes], T]:
    """The work, unless its time is over when it is to begin: then nobody waits for it any more."""

    def begun(data: bytes) -> T:
        if deadline is not None and time.monotonic() > deadline:
            raise UserError("no time was left for this image; ask for fewer at once")
        return work(data)

    return begun


def shown(text: str) -> str:
    """A path as an error may show it: short, and without what may be a password or a token."""
    text = text.strip().rpartition("@")[2]
    cut = min(len(text.partition("?")[0]), 80)
    return text if cut == len(text) else f"{text[:cut]}…"


def _scheme(image: Any) -> str:
    found = _SCHEME.match(image[:40]) if isinstance(image, str) else None
    return (found[1] or found[2]).lower() if found else ""


def _file_or_base64(text: str, folders: Sequence[Path] | None) -> tuple[bytes, bool]:
    is_data = text.startswith("data:")
    if folders != [] and not is_data and len(text) < _LONGEST_PATH:
        try:
            if (found := read_regular(text, MAX_IMAGE_BYTES + 1, folders)) is not None:
                return found, True
        except PermissionError:
            if folders is None:  # else nobody learns that it is there
                raise UserError(f"{shown(text)}: the file may not be read") from None
    encoded = text.partition(",")[2] if is_data else text
    try:
        return base64.b64decode(encoded, validate=True), False
    except (binascii.Error, ValueError):
        pass
    try:
        return base64.b64decode("".join(encoded.split()), validate=True), False
    except (binascii.Error, ValueError):
        place = "the data: URL" if is_data else shown(text)
        raise UserError(f"{place}: {_neither(folders)}") from None


def _neither(folders: Sequence[Path] | None) -> str:
    if folders is None:
        return "neither a readable image file nor base64 of one"
    if folders:
        return "neither an image file in a folder that is open to requests nor base64 of one"
    return "no base64 of an image; paths are not read here"
