"""What these lines after `labelstack` do, one after another, in one process: ``tiny.typed`` starts it.

Every command's exit code counts: the first that is not 0 ends the process, or, where all must fail, the smallest.
"""

from __future__ import annotations

import shlex
import sys


def main() -> int:
    from labelstack.cli import main as one

    all_fail, codes = sys.argv[1] == "fail", []
    for line in sys.argv[2:]:
        sys.argv = ["labelstack", *shlex.split(line)]
        try:
            one()
        except SystemExit as ended:
            codes.append(ended.code or 0)
        if codes[-1] and not all_fail:
            break
    return min(codes) if all_fail else codes[-1]


if __name__ == "__main__":
    sys.exit(main())
