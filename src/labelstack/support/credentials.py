"""Credentials in URIs: found, so that params.yaml can refuse them, and taken out, so that a text may be shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

HIDDEN = "…"
# A user without password is no secret of a database; anywhere else it may be a token.
_DATABASES = r"(?:postgres(?:ql)?|mysql|mssql)(?:\+\w+)?"
_SCHEME = r"[A-Za-z][A-Za-z0-9+.\-]*://"
# [user][:password]@ before the first slash, or a password that holds an unescaped slash (a port is digits only)
_LOGIN = re.compile(rf"({_SCHEME})(?:[^\s/?#\"'<>]*@|(?!\[)[^\s/?#@:\"'<>]*:(?!\d+(?:[/?#\s]|$))[^\s@\"'<>]*@)(?=\S)")
_DATABASE_USER = re.compile(rf"^{_DATABASES}://[^\s/?#@:]+@[^@]*$", re.IGNORECASE)
_QUERY_KEYS = (
    r"password|passwd|pwd|sslpassword|token|access_token|api_?key|secret|signature|sig|AWSAccessKeyId|"
    r"X-Amz-(?:Signature|Credential|Security-Token)|X-Goog-(?:Signature|Credential)"
)
_QUERY = re.compile(rf"([?&](?:{_QUERY_KEYS})=)[^&\s\"'<>#]+", re.IGNORECASE)


def without_credentials(text: str) -> str:
    """A URI, or a text with URIs in it, without users, passwords and signatures.

    ``https://user:password@host/a?X-Amz-Signature=0f`` becomes ``https://host/a?X-Amz-Signature=…``.
    """
    if "://" not in text:
        return text
    return _QUERY.sub(rf"\g<1>{HIDDEN}", _LOGIN.sub(r"\1", text))


def holds_credentials(uri: str) -> bool:
    """Whether a URI holds a password or a token; ``postgresql://user@host/name`` holds neither."""
    return without_credentials(uri) != uri and not (_DATABASE_USER.match(uri) and not _QUERY.search(uri))


def credential_problems(content: Any) -> list[str]:
    """A sentence for each text in nested sections that holds credentials: the key and the right place for them.

    Parameters
    ----------
    content : mapping, list or scalar
        As read from YAML.

    Returns
    -------
    list of str
        No sentence holds a part of the value.
    """
    return [
        f"{key}: holds credentials, and this file goes into git: leave them out and {_right_place(key, text)}"
        for key, text in _texts(content)
        if holds_credentials(text)
    ]


def cleaned(content: Any) -> Any:
    """The same nested sections with every text as ``without_credentials`` gives it."""
    if isinstance(content, dict):
        return {cleaned(key): cleaned(value) for key, value in content.items()}
    if isinstance(content, list):
        return [cleaned(value) for value in content]
    return without_credentials(content) if isinstance(content, str) and holds_credentials(content) else content


def _texts(content: Any, where: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(content, dict):
        for key, value in content.items():
            shown = without_credentials(str(key))
            yield from _texts(value, f"{where}.{shown}" if where else shown)
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from _texts(value, f"{where}.{index}")
    elif isinstance(content, str):
        yield where, content


def _right_place(key: str, text: str) -> str:
    if re.match(_DATABASES + "://", text, re.IGNORECASE):
        return "set PGPASSWORD (or write ~/.pgpass), or give the whole URI in MLFLOW_TRACKING_URI"
    if key == "tracking.uri":
        return (
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN), or give the whole "
            "URI in MLFLOW_TRACKING_URI"
        )
    if text.lower().startswith("s3://") or "s3_endpoint_url" in key or key == "tracking.artifacts":
        return (
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE; those of the DVC remote may lie in "
            ".dvc/config.local"
        )
    return "set them in the environment, or in a file that git ignores, such as .dvc/config.local"
