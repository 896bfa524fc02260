"""What checks of a place in S3 found, and what the answers of a server mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from labelstack.s3.place import Place, policy

DENIED = frozenset({"AccessDenied", "403", "Forbidden", "AllAccessDisabled"})
BAD_KEYS = {
    "InvalidAccessKeyId": "the server does not know this access key id",
    "InvalidClientTokenId": "AWS does not know this access key id",
    "SignatureDoesNotMatch": "the secret does not belong to this access key id",
    "ExpiredToken": "the session token has expired: get new credentials",
    "InvalidToken": "the session token is not valid: get new credentials",
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it, then try again",
}


@dataclass(frozen=True)
class Check:
    """One check: what was looked at, whether it is all right, and what was found or is missing."""

    name: str
    state: Literal["ok", "missing", "untested"]
    text: str


@dataclass
class Findings:
    """All checks of a place.

    Attributes
    ----------
    place : Place
        With the endpoint and the region that are to be used.
    checks : list of Check
    denied : set of str
        IAM actions that were refused, or could not be tried for want of another.
    credentials : botocore's frozen credentials, or None
    partition : str
        The part of AWS that the region belongs to, for ARNs.
    without_checksums : bool
        Whether the server refuses requests with checksum headers, and takes them without.
    source : str
        Where the credentials come from, in botocore's words.
    """

    place: Place
    checks: list[Check] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)
    credentials: Any = None
    partition: str = "aws"
    without_checksums: bool = False
    source: str = ""

    @property
    def problems(self) -> list[str]:
        """A sentence for each check that failed."""
        return [f"{check.name}: {check.text}" for check in self.checks if check.state == "missing"]

    def policy(self) -> dict[str, Any] | None:
        """The IAM policy that would grant what was refused, or None when nothing was."""
        return policy(self.place, self.denied, self.partition) if self.denied else None

    def found(self, name: str, text: str) -> bool:
        """Note a check that is all right."""
        self.checks.append(Check(name, "ok", text))
        return True

    def missing(self, name: str, text: str) -> bool:
        """Note a check that failed."""
        self.checks.append(Check(name, "missing", text))
        return False

    def untested(self, name: str, text: str, action: str | None = None) -> None:
        """Note a check that could not be made, and the permission that may be wanting."""
        self.denied |= {action} if action else set()
        self.checks.append(Check(name, "untested", text))

    def refused(self, name: str, action: str) -> bool:
        """Note a check that failed for want of a permission."""
        self.denied.add(action)
        return self.missing(name, f"access denied ({action})")


def masked(access_key_id: str) -> str:
    """An access key id that can be told from others, but not used."""
    return f"{access_key_id[:4]}…{access_key_id[-4:]}" if len(access_key_id) >= 16 else f"{access_key_id[:2]}…"


def code(error: Any) -> str:
    """The S3 error code of a botocore ``ClientError``."""
    return str(error.response.get("Error", {}).get("Code", ""))


def reason(error: Any) -> str:
    """A botocore ``ClientError`` in words."""
    found = code(error)
    if found in BAD_KEYS:
        return BAD_KEYS[found]
    message = error.response.get("Error", {}).get("Message", "")
    return f"access denied ({found})" if found in DENIED else f"{found} {message}".strip()


def short(error: Exception) -> str:
    """The first line of an error's message."""
    return f"{error}".split("\n", 1)[0]
