"""Stage `second_score@{model}`: a second-round model's networks put together, as `score` does it of base models."""

from __future__ import annotations

from labelstack.params import load_params
from labelstack.stages.common import known
from labelstack.stages.members import second_round_model, write_digests
from labelstack.stages.score import score


def run(name: str) -> None:
    """Score ``second_round.<name>``; write its digests for `members`."""
    params = load_params()
    section = known(name, params.second_round, "second-round model")
    own = second_round_model(name, params.networks)
    score(params, own, {"second": section}, "second_score")
    write_digests(own)
