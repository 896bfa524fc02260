"""Files that are either whole or absent, and S3 through boto3."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labelstack.support.errors import UserError

_LONGEST_NAME = 255  # bytes, in nearly every file system
_LONGEST_SUFFIX = 20


def writable(path: str | Path, option: str = "") -> Path:
    """The path of a file that ``replacing`` can write, found out before the work; nothing is made.

    Parameters
    ----------
    option : str
        The command's option that named it, for the message.

    Raises
    ------
    UserError
        When it is a folder or a device, or its folder can neither be written nor made.
    """
    path = Path(path)
    shown = f"{option} {path}".strip()
    try:
        if path.is_dir():
            raise UserError(f"{shown}: is a folder; name a file")
        if path.exists() and not path.is_file():
            raise UserError(f"{shown}: is a device or a pipe, not a file that can be replaced; name a file")
    except OSError as error:
        raise UserError(f"{shown}: can't be written ({error.strerror})") from None
    writable_folder(path.parent, shown)
    return path


def writable_folder(folder: Path, shown: str) -> None:
    """See that files can be put into a folder, or that it can be made; raise ``UserError`` that begins with ``shown``.

    It is tried with a file that is removed at once: permissions don't tell of read-only places, nor root of anything.
    """
    folder = folder.absolute()
    try:
        while not os.path.lexists(folder):
            if len(os.fsencode(folder.name)) > _LONGEST_NAME:
                raise UserError(f"{shown}: a name in it is longer than {_LONGEST_NAME} bytes")
            folder = folder.parent
        if not folder.is_dir():
            what = "leads nowhere" if folder.is_symlink() else "is a file"
            raise UserError(f"{shown}: can't be written, {folder} {what}")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{shown}: can't be written, nothing can be put into {folder} ({error.strerror})") from None


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it over ``path`` on success, remove it on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix if len(path.suffix) <= _LONGEST_SUFFIX else ""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{_short(path)}.", suffix=suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_dir(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; put it in the place of ``path`` on success."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{_short(path)}."))
    try:
        yield temporary
        os.chmod(temporary, 0o755)
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _short(path: Path) -> str:
    """The start of a file's name: a temporary name beside it must not be longer than names may be."""
    return path.name[:40]


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: str | Path, content: Any) -> None:
    """Write indented JSON with keys in the given order; NaN and infinities are refused."""
    with replacing(path) as temporary:
        temporary.write_text(
            json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )


def read_json(path: str | Path) -> Any:
    """Read JSON; raise ``UserError`` with line and column when it is malformed or the file is absent.

    NaN and infinities, which ``write_json`` never writes, are refused too.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_no_number)
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise UserError(f"{path}: brackets within brackets, too many to read") from None
    except ValueError as error:  # NaN, or an integer of thousands of digits
        raise UserError(f"{path}: {str(error).partition(';')[0]}") from None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def split_s3_url(url: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``; raise ``UserError`` when either is missing."""
    # No URL parser: in a key, ? and # and line ends are characters like any other.
    bucket, _, key = url[5:].partition("/")
    if url[:5].lower() != "s3://" or not bucket or not key:
        raise UserError(f"{url}: expected s3://bucket/key")
    return bucket, key


WITHOUT_CHECKSUMS: dict[str, Any] = {
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}
"""Settings for S3 servers that know nothing of the checksums which AWS's clients send and ask for since 2025."""


def s3_client(endpoint_url: str | None = None) -> Any:
    """A boto3 S3 client; credentials and region come from the usual AWS places.

    Servers that are not AWS get no checksum headers: some refuse them.
    """
    import boto3
    from botocore.config import Config

    elsewhere = endpoint_url or any(map(os.environ.get, ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")))
    config = Config(
        retries={"max_attempts": 4, "mode": "standard"},
        max_pool_connections=64,
        **(WITHOUT_CHECKSUMS if elsewhere else {}),
    )
    return boto3.client("s3", endpoint_url=endpoint_url, config=config)
