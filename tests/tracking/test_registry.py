from __future__ import annotations

import os

import pytest

from labelstack.errors import UserError
from labelstack.tracking.ensemble_log import LoggedEnsemble
from labelstack.tracking.registry import ensemble_digest, load_ensemble, register
from labelstack.tracking.runs import Tracker


class Logs:
    """Stores an empty model and counts how often."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker, self.calls = tracker, 0

    def __call__(self) -> LoggedEnsemble:
        self.calls += 1
        with self.tracker.run("register", "ensemble") as run:
            client = self.tracker.client
            model = client.create_logged_model(self.tracker.experiment_id, "ensemble", source_run_id=run.run_id)
            client.finalize_logged_model(model.model_id, "READY")
        return LoggedEnsemble(model.model_id, f"models:/{model.model_id}", run.run_id)


def test_digest_knows_every_part_but_no_order() -> None:
    one = ensemble_digest({"a": "1", "b": "2"})
    assert one == ensemble_digest({"b": "2", "a": "1"})
    assert one != ensemble_digest({"a": "2", "b": "1"})
    assert len(one) == 16


def test_the_same_ensemble_is_registered_once(tracker: Tracker) -> None:
    logs = Logs(tracker)
    tags = {"git.commit": "c1", "params.digest": "p1"}
    first = register(tracker, "it's mine", "d1", logs, "# Card", tags)
    again = register(tracker, "it's mine", "d1", logs, "# Other card", tags)
    assert (first.version, first.created) == (1, True)
    assert (again.version, again.created) == (1, False)
    assert again.run_id == first.run_id
    assert first.uri == "models:/it's mine/1"
    assert logs.calls == 1
    found = tracker.client.get_model_version("it's mine", "1")
    assert found.description == "# Card"
    assert found.tags == {"git.commit": "c1", "params.digest": "p1", "labelstack.ensemble_digest": "d1"}
    assert found.run_id == first.run_id


def test_aliases(tracker: Tracker) -> None:
    logs = Logs(tracker)
    register(tracker, "m", "d1", logs)
    second = register(tracker, "m", "d2", logs)
    register(tracker, "m", "d1", logs)
    assert second.version == 2
    aliases = tracker.client.get_registered_model("m").aliases
    assert {alias: int(version) for alias, version in aliases.items()} == {"champion": 1, "candidate": 2}


def test_aliases_that_a_kill_left_out_are_set_later(tracker: Tracker) -> None:
    logs = Logs(tracker)
    register(tracker, "m", "d1", logs)
    for alias in ("champion", "candidate"):
        tracker.client.delete_registered_model_alias("m", alias)
    assert not register(tracker, "m", "d1", logs).created
    assert set(tracker.client.get_registered_model("m").aliases) == {"champion", "candidate"}


def test_a_version_that_is_not_ready_does_not_count(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = Logs(tracker)
    register(tracker, "m", "d1", logs)
    search = tracker.client.search_model_versions

    def pending(query: str) -> list[object]:
        versions = list(search(query))
        for version in versions:
            version._status = "PENDING_REGISTRATION"
        return versions

    monkeypatch.setattr(tracker.client, "search_model_versions", pending)
    assert register(tracker, "m", "d1", logs).version == 2


def test_a_failed_upload_registers_nothing(tracker: Tracker) -> None:
    def broken() -> LoggedEnsemble:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        register(tracker, "m", "d1", broken)
    assert not tracker.client.search_model_versions("name = 'm'")


def test_a_long_card_is_cut(tracker: Tracker) -> None:
    register(tracker, "m", "d1", Logs(tracker), "x" * 6000)
    description = tracker.client.get_model_version("m", "1").description
    assert len(description) == 5000
    assert description.endswith("(cut)")


def test_names_that_the_registry_refuses(tracker: Tracker) -> None:
    with pytest.raises(UserError, match="a/b"):
        register(tracker, "a/b", "d1", Logs(tracker))


def test_loading_leaves_the_process_as_it_was(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:5000")
    with pytest.raises(UserError, match="could not load models:/nothing/7"):
        load_ensemble(tracker, "models:/nothing/7")
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://someone:5000"
    assert mlflow.get_tracking_uri() == "http://someone:5000"
    with tracker.as_default():
        assert mlflow.get_tracking_uri() == tracker.uri
