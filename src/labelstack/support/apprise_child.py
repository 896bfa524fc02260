"""A process that sends one message by apprise and says with its exit code how that went; it prints nothing.

Apprise prints and logs parts of URLs, and waits for servers: neither may reach the process that works. URLs, which hold
tokens and passwords, come by standard input, as no other process can read them there.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Sequence

SENT, UNKNOWN_URL, NOT_TAKEN = 0, 3, 4
_LONGER = 5  # seconds that it may live beyond those that its parent waits


def send(urls: Sequence[str], title: str, body: str) -> int:
    """Send a text to every URL; ``SENT``, ``UNKNOWN_URL`` when apprise knows no such, else ``NOT_TAKEN``."""
    import apprise
    from apprise.common import NotifyFormat, PersistentStoreMode

    logging.disable(logging.CRITICAL)
    asset = apprise.AppriseAsset(app_id="labelstack", storage_mode=PersistentStoreMode.MEMORY)  # nothing on disk
    told = apprise.Apprise(asset=asset)
    known = [told.add(url) for url in urls]
    taken = bool(len(told)) and told.notify(body=body, title=title, body_format=NotifyFormat.TEXT)
    return UNKNOWN_URL if not all(known) else SENT if taken else NOT_TAKEN


def main() -> int:
    """Read ``urls``, ``title``, ``body`` and ``seconds`` as JSON from standard input, and send."""
    asked = json.load(sys.stdin)
    signal.setitimer(signal.ITIMER_REAL, asked["seconds"] + _LONGER)  # ends the process, whatever it waits for
    return send(asked["urls"], asked["title"], asked["body"])


if __name__ == "__main__":
    sys.exit(main())
