"""A saved view of the experiment's runs table, under MLflow's own *Views*: chosen columns, best run first.

MLflow 3 keeps saved views as experiment tags (its UI writes and lists the same); there is no tag for the columns that
the page opens with, so the view is opened by its link, or from the list.
"""

from __future__ import annotations

import json
import time

from labelstack.params.metric import MetricSection
from labelstack.scoring.metric import metric_of
from labelstack.tracking import store
from labelstack.tracking.runs import Tracker

KEY, NAME = "labelstack", "Cross-fitted scores"
_TAG = f"mlflow.sharedViewState.{KEY}"
_ATTRIBUTES = ("Dataset", "Models")


def save_view(tracker: Tracker, metric: MetricSection) -> None:
    """Keep a view with the cross-fitted scores, ordered by the primary one; one that shows the same is left alone."""
    primary = metric_of(metric)
    columns = {each.key: f"metrics.`{each.cross_fitted}`" for each in primary.family}
    state = {
        "selectedColumns": [*(f"attributes.`{name}`" for name in _ATTRIBUTES), *columns.values()],
        "orderByKey": columns[primary.key],
        "orderByAsc": False,
    }
    shown = json.dumps(state)
    with store.explained(tracker.uri, "save the view of the scores"):
        held = tracker.client.get_experiment(tracker.experiment_id).tags.get(_TAG, "")
        if _state(held) != shown:
            now = int(time.time() * 1000)
            view = {"name": NAME, "createdAt": now, "updatedAt": now, "state": shown}
            tracker.client.set_experiment_tag(tracker.experiment_id, _TAG, json.dumps(view))


def view_url(experiment_id: str, base: str) -> str:
    """The page of the runs table with that view."""
    query = f"viewStateShareKey={KEY}&compareRunsMode=TABLE&workflowType=machine_learning"
    return f"{base.rstrip('/')}/#/experiments/{experiment_id}/runs?{query}"


def _state(tag: str) -> str:
    try:
        return str(json.loads(tag)["state"])
    except (ValueError, KeyError, TypeError):
        return ""
