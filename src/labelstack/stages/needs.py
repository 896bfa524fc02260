"""Stage `needs`: digests of what every second-round model takes of base models, and of those alone."""

from __future__ import annotations

from labelstack.params import load_params
from labelstack.stages import paths
from labelstack.stages.common import done
from labelstack.stages.members import base_model, taken_of
from labelstack.support import storage


def run() -> None:
    """Write data/second/needs.json: second-round model → base model → aspect → digest."""
    params = load_params()
    content = {
        name: {first: taken_of(base_model(first, params.networks), section.takes) for first in section.after}
        for name, section in params.second_round.items()
    }
    storage.write_json(paths.NEEDS, content)
    told = ", ".join(f"{name} after {' and '.join(firsts)}" for name, firsts in content.items())
    done("needs", told or "no second round", paths.NEEDS)
