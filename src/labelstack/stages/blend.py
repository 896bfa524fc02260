"""Stage `blend`: weights and decision rule of the ensemble, one MLflow run that links to its members'."""

from __future__ import annotations

from labelstack.params import load_params
from labelstack.report.figures import blend_weights, figure_png, threshold_curves
from labelstack.scoring.metric import metric_of
from labelstack.stages import paths
from labelstack.stages.common import done, flat, lineage
from labelstack.stages.logged_data import stacking_data, test_data
from labelstack.stages.members import THE_BLEND, blended
from labelstack.stages.rows import stacking_split
from labelstack.stages.scored_sets import log_scored
from labelstack.stages.work.fit_blend import compute
from labelstack.tracking.run import MEMBER_TAG
from labelstack.tracking.run_file import read_run_json, write_run_json
from labelstack.tracking.runs import connect
from labelstack.tracking.views import save_view


def run() -> None:
    """Blend the members, choose the decision rule, log both."""
    params = load_params()
    sections = {
        "blend": params.blend,
        "members": params.blend_members(),
        "folds": params.folds,
        "metric": params.metric,
        "thresholds": params.thresholds,
    }
    inputs = [member.predictions for member in blended(params)]
    tags = lineage([*inputs, paths.manifest(stacking_split(params)), paths.LABELS, paths.STACKING], sections)
    tracker = connect(params.tracking)
    mixed, own = compute(params), THE_BLEND
    links = {f"{MEMBER_TAG}{member.name}": read_run_json(member.run_file)["run_id"] for member in blended(params)}
    with tracker.run(*own.run_name, params=flat(sections), tags=tags | links) as run_:
        run_.log_datasets(stacking_data(params, mixed.rows), test_data(params, mixed.test_id))
        run_.log_metrics(mixed.scores | {f"weight.{name}": weight for name, weight in mixed.weights.items()})
        decides = metric_of(params.metric).decides.key
        run_.log_metrics({f"decision.{name}.{decides}": row[decides] for name, row in mixed.strategies.items()})
        run_.set_tags({"labelstack.decision": mixed.strategy})
        run_.log_bytes(figure_png(threshold_curves(mixed.curve)), "plots/threshold_curve.png")
        run_.log_bytes(figure_png(blend_weights(mixed.weights)), "plots/blend_weights.png")
        run_.log_artifact(own.learnt, "model")
        run_.log_artifact(own.rule, "")
        log_scored(run_, own.name, mixed.rows, mixed.labels, mixed.fitted, metric_of(params.metric))
        write_run_json(own.run_file, run_, mixed.scores)
    save_view(tracker, params.metric)
    used = sum(weight > 0 for weight in mixed.weights.values())
    primary = metric_of(params.metric).cross_fitted
    kept = f"{used} of {len(mixed.weights)} members kept, decision {mixed.strategy}"
    done("blend", f"{kept}, {primary} {mixed.scores[primary]:.4f}", own.folder)
