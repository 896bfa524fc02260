"""Stage `predict@{model}-{fold}`: what one network says of rows that it did not learn from, and of the test split."""

from __future__ import annotations

from labelstack.params import load_params
from labelstack.stages.code import chosen, kept_code_digest
from labelstack.stages.common import done
from labelstack.stages.train import known_networks
from labelstack.stages.work.predict_network import compute


def run(name: str, fold: str | None = None) -> None:
    """Predict with ``models.<name>``: with the network of a fold, or one after another with all."""
    params = load_params()
    for own in known_networks(params, name, fold):
        predicted = compute(params, own, kept_code_digest("predict", *chosen(params, "predict", name, own.fold)))
        audit = f", {predicted.audit} of the audit" if predicted.audit else ""
        rows = f"{predicted.oof} rows for the second level{audit}, {len(predicted.test_id)} test images"
        done("predict", f"{own.name}: {rows}", own.predictions)
