"""What people call images, in the place of ids, in messages about a data set whose images are called by texts."""

from __future__ import annotations

import re

from labelstack.stages import paths
from labelstack.support.credentials import without_credentials
from labelstack.support.errors import UserError

# Such ids are 63 bits of a digest: one of less than 12 digits is one in ten million.
_ID = re.compile(r"(?<![\w.])\d{12,19}(?![\w.])")


def with_names(message: str) -> str:
    """The message with names for the ids of images of the manifests here; unchanged where these have no names."""
    wanted = {int(digits) for digits in _ID.findall(message)}
    names = _names(wanted) if wanted else {}
    return _ID.sub(lambda found: names.get(int(found[0]), found[0]), message) if names else message


def _names(wanted: set[int]) -> dict[int, str]:
    """Id → name in quotes, of those among the wanted ones that are images."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    names: dict[int, str] = {}
    ids = pa.array([number for number in wanted if number < 2**63], pa.int64())
    for split in paths.SPLITS:
        try:
            if "name" not in pq.read_schema(paths.manifest(split)).names:
                continue
            table = pq.read_table(paths.manifest(split), columns=["image_id", "name"])
            table = table.filter(pc.is_in(table["image_id"], ids))
        except (OSError, pa.ArrowException, UserError):  # a message about a missing manifest is shown as it is
            continue
        for number, name in zip(table["image_id"].to_pylist(), table["name"].to_pylist(), strict=True):
            names[number] = repr(without_credentials(name))
    return names
