"""Keys and values in the forms that MLflow accepts, without credentials."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from labelstack.support.credentials import without_credentials

_MAX_PARAM, _MAX_TAG, _MAX_KEY = 6000, 8000, 250


def clean_key(key: str) -> str:
    """A name that MLflow accepts for a metric, param or tag: other characters become ``_``, a long one is cut."""
    key = re.sub(r"[^\w.\- :/]", "_", without_credentials(key))
    key = "/".join(part for part in key.split("/") if part not in ("", ".", "..")) or "_"
    return key if len(key) <= _MAX_KEY else f"{key[: _MAX_KEY - 17]}.{_hash(key)}"


def clean_params(params: Mapping[str, Any]) -> dict[str, str]:
    """Params as texts that MLflow accepts; a value over 6,000 characters is cut and ends with its SHA-256."""
    return {clean_key(key): _cut(_text(value), _MAX_PARAM) for key, value in params.items()}


def clean_tags(tags: Mapping[str, Any]) -> dict[str, str]:
    """Tags as texts that MLflow accepts, without credentials in URLs."""
    return {clean_key(key): _cut(without_credentials(str(value)), _MAX_TAG) for key, value in tags.items()}


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return without_credentials(text)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 32]}… sha256:{_hash(text)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
