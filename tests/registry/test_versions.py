from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labelstack.ensemble.log import LoggedEnsemble
from labelstack.params.tracking import TrackingSection
from labelstack.registry.champions import champion, history, move_within_turn
from labelstack.registry.lock import FLAG, one_at_a_time
from labelstack.registry.versions import (
    all_versions,
    describe,
    download,
    ensemble_digest,
    read_version,
    register,
    resolve,
)
from labelstack.scoring.metric import FMetric
from labelstack.support.errors import UserError
from labelstack.tracking.runs import Tracker, connect
from registry.versions import TRUTH, Logs, registered, scored, sets
from stores import wait_for

REGISTERING = """
import json, sys, time
from pathlib import Path
from registry.versions import registered, scored, sets
from labelstack.params.tracking import TrackingSection
from labelstack.registry.promotion import promote_if_better
from labelstack.scoring.metric import FMetric
from labelstack.tracking.runs import connect
tracker = connect(TrackingSection(), sys.argv[1])
digest, wrong = sys.argv[2], float(sys.argv[3])
Path(sys.argv[1], f"ready-{sys.argv[4]}").touch()
while not Path(sys.argv[1], "go").exists():
    time.sleep(0.005)
version = registered(tracker, digest, scored(sets(wrong)))
found = promote_if_better(tracker, "m", version.version, FMetric())
print(json.dumps({"version": version.version, "created": version.created, "sentence": found.sentence}))
"""


def aliases(tracker: Tracker, name: str = "m") -> dict[str, int]:
    return {alias: int(version) for alias, version in tracker.client.get_registered_model(name).aliases.items()}


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
    found = read_version(tracker, "it's mine", 1)
    assert found.description == "# Card"
    own = {"labelstack.ensemble_digest": "d1", "labelstack.files_digest": "files-1"}
    assert re.fullmatch("[0-9a-f]{64}", found.tags.pop("labelstack.model_digest"))
    assert found.tags == {"git.commit": "c1", "params.digest": "p1"} | own
    assert found.run_id == first.run_id


def test_aliases(tracker: Tracker) -> None:
    logs = Logs(tracker)
    register(tracker, "m", "d1", logs)
    second = register(tracker, "m", "d2", logs)
    register(tracker, "m", "d1", logs)
    assert second.version == 2
    assert aliases(tracker) == {"champion": 1, "candidate": 2}


def test_aliases_that_a_kill_left_out_are_set_later(tracker: Tracker) -> None:
    logs = Logs(tracker)
    register(tracker, "m", "d1", logs)
    for alias in ("champion", "candidate"):
        tracker.client.delete_registered_model_alias("m", alias)
    assert not register(tracker, "m", "d1", logs).created
    assert aliases(tracker) == {"champion": 1, "candidate": 1}


def test_a_version_that_is_not_ready_does_not_count(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = Logs(tracker)
    register(tracker, "m", "d1", logs)
    search = tracker.client.search_model_versions

    def pending(query: str, **options: object) -> object:
        versions = search(query, **options)
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
    description = read_version(tracker, "m", 1).description
    assert len(description) == 5000
    assert description.endswith("(cut)")
    describe(tracker, "m", 1, "y" * 5001)
    assert len(read_version(tracker, "m", 1).description) == 5000


def test_names_that_the_registry_refuses(tracker: Tracker) -> None:
    with pytest.raises(UserError, match="a/b"):
        register(tracker, "a/b", "d1", Logs(tracker))


def test_what_a_user_may_call_a_version(tracker: Tracker) -> None:
    for digest in ("d1", "d2"):
        register(tracker, "m", digest, Logs(tracker))
    for text in ("1", "v1", " 1 ", "m/1", "@champion", "m@champion", "models:/m/1", "models:/m@champion"):
        assert resolve(tracker, text, "m").version in (1, "1"), text
    assert "candidate" in resolve(tracker, "2", "m").aliases
    with pytest.raises(
        UserError, match=r"3: no such version of m in sqlite:///mlflow.db \(there are: 1, 2, @candidate"
    ):
        resolve(tracker, "3", "m")
    with pytest.raises(UserError, match=r"no such version of other in .* \(there are: none"):
        resolve(tracker, "other/1", "m")
    with pytest.raises(UserError, match="expected a version like 3"):
        resolve(tracker, "the best", "m")
    with pytest.raises(UserError, match="m/9"):
        read_version(tracker, "m", 9)


def test_fetching_one_file_of_a_version(tracker: Tracker, tmp_path: Path) -> None:
    version = registered(tracker, "d1", scored(TRUTH))
    file = download(tracker, version.uri, "record/scored.npz", tmp_path / "there")
    assert file.is_relative_to(tmp_path / "there")
    assert file.stat().st_size > 0
    whole = download(tracker, version.uri, "", tmp_path / "whole")
    assert (whole / "record/scored.npz").read_bytes() == file.read_bytes()
    with pytest.raises(UserError, match=r"record/nothing\.npz"):
        download(tracker, version.uri, "record/nothing.npz", tmp_path)
    with pytest.raises(UserError, match="models:/m/7"):
        download(tracker, "models:/m/7", "record/scored.npz", tmp_path)


def test_all_versions_page_after_page(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(5):
        register(tracker, "m", f"d{i}", Logs(tracker))
    search = tracker.client.search_model_versions
    monkeypatch.setattr(
        tracker.client, "search_model_versions", lambda query, page_token=None: search(query, 2, None, page_token)
    )
    assert [int(version.version) for version in all_versions(tracker, "m")] == [1, 2, 3, 4, 5]
    assert all_versions(tracker, "nothing") == []


def test_a_store_as_the_default_leaves_the_process_as_it_was(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    mlflow.set_tracking_uri(None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:5000")
    with tracker.as_default():
        assert mlflow.get_tracking_uri() == tracker.uri
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://someone:5000"
    assert mlflow.get_tracking_uri() == "http://someone:5000"
    with tracker.as_default():
        assert mlflow.get_tracking_uri() == tracker.uri
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert not mlflow.is_tracking_uri_set()
    mlflow.set_tracking_uri("http://other:5000")
    with tracker.as_default():
        assert mlflow.get_tracking_uri() == tracker.uri
    assert mlflow.get_tracking_uri() == os.environ["MLFLOW_TRACKING_URI"] == "http://other:5000"
    mlflow.set_tracking_uri(None)


def test_the_same_ensemble_of_another_process_is_taken(tracker: Tracker) -> None:
    def meanwhile() -> LoggedEnsemble:
        register(tracker, "m", "d1", Logs(tracker))
        return Logs(tracker)()

    found = register(tracker, "m", "d1", meanwhile)
    assert (found.version, found.created) == (1, False)
    assert len(all_versions(tracker, "m")) == 1
    assert len(tracker.client.search_logged_models([tracker.experiment_id])) == 1


def test_processes_that_register_at_once(root: Path, tracker: Tracker) -> None:
    given = [("d1", "0.3"), ("d2", "0.02"), ("d2", "0.02")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", REGISTERING, str(root), *arguments, str(i)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for i, arguments in enumerate(given)
    ]  # fmt: skip
    deadline = time.monotonic() + 120
    while len(list(root.glob("ready-*"))) < len(given):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (root / "go").touch()
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    answers = [json.loads(out.splitlines()[-1]) for out, _ in outputs]
    assert sorted(a["version"] for a in answers[:2]) == [1, 2]
    assert answers[1]["version"] == answers[2]["version"]
    assert [a["created"] for a in answers[1:]].count(True) == 1
    assert champion(tracker, "m") == answers[1]["version"]
    assert aliases(tracker)["candidate"] == 2
    moves = history(tracker, "m")
    assert [move.before for move in moves] == [None, *(move.after for move in moves[:-1])]
    assert not [key for key in tracker.client.get_registered_model("m").tags if key.startswith(FLAG)]


def test_one_at_a_time_waits_and_clears_up_after_the_dead(tracker: Tracker) -> None:
    registered(tracker, "d1")
    with (
        one_at_a_time(tracker, "m"),
        pytest.raises(UserError, match="have been changing 'm'"),
        one_at_a_time(tracker, "m", patience=0.3),
    ):
        pytest.fail("two at once")
    tracker.client.set_registered_model_tag("m", f"{FLAG}dead", "of a killed process")
    with one_at_a_time(tracker, "m", dead_after=0.3):
        flags = [key for key in tracker.client.get_registered_model("m").tags if key.startswith(FLAG)]
        assert len(flags) == 1
        assert flags[0] != f"{FLAG}dead"
    with pytest.raises(UserError, match="change the registered model 'nothing'"), one_at_a_time(tracker, "nothing"):
        pytest.fail("there is no such model")


def test_two_that_raise_their_flags_at_once_both_withdraw(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    registered(tracker, "d1")
    raise_flag = tracker.client.set_registered_model_tag
    calls: list[str] = []

    def as_another_does(name: str, key: str, value: str) -> None:
        raise_flag(name, key, value)
        if not calls:
            raise_flag(name, f"{FLAG}other", "1")
        elif len(calls) == 1:
            assert f"{FLAG}other" not in tracker.client.get_registered_model(name).tags
        calls.append(key)

    monkeypatch.setattr(tracker.client, "set_registered_model_tag", as_another_does)
    with one_at_a_time(tracker, "m", dead_after=0.2):
        assert len(calls) >= 2


def test_a_flag_that_can_not_be_taken_down_harms_nobody(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    def gone(*_: object) -> None:
        raise MlflowException("no answer")

    registered(tracker, "d1")
    with monkeypatch.context() as patched, one_at_a_time(tracker, "m"):
        patched.setattr(tracker.client, "delete_registered_model_tag", gone)
    with one_at_a_time(tracker, "m", dead_after=0.2):
        assert champion(tracker, "m") == 1


def slowed(root: Path, seconds: float) -> tuple[Tracker, list[str]]:
    """A client of its own for a store that takes its time, and the registered models it asked for."""
    tracker, asked = connect(TrackingSection(), root), list[str]()

    def late(call: Callable[..., Any]) -> Callable[..., Any]:
        def slow(name: str, *more: Any) -> Any:
            asked.append(name)
            time.sleep(seconds)
            return call(name, *more)

        return slow

    for name in ("get_registered_model", "set_registered_model_tag", "delete_registered_model_tag"):
        setattr(tracker.client, name, late(getattr(tracker.client, name)))
    return tracker, asked


def test_nobody_goes_in_beside_a_living_process_however_slow_the_store_is(tracker: Tracker, root: Path) -> None:
    registered(tracker, "d1")
    lease, delay = 0.1, 0.25
    (first, _), (second, asked) = slowed(root, delay), slowed(root, delay)
    went_in = threading.Event()

    def contend() -> None:
        with one_at_a_time(second, "m", dead_after=lease):
            went_in.set()

    thread = threading.Thread(target=contend)
    with one_at_a_time(first, "m", dead_after=lease) as turn:
        thread.start()
        wait_for(lambda: len(asked) > 12 or went_in.is_set(), 120)  # many leases long
        assert not went_in.is_set()
        turn.check()
    thread.join(120)
    assert went_in.is_set()
    assert not [key for key in tracker.client.get_registered_model("m").tags if key.startswith(FLAG)]


def test_who_was_taken_for_dead_changes_nothing_more(tracker: Tracker) -> None:
    registered(tracker, "d1")
    registered(tracker, "d2")
    with one_at_a_time(tracker, "m") as turn:
        tracker.client.delete_registered_model_tag("m", turn.key)  # as another does after the lease
        with pytest.raises(UserError, match="another process changed 'm' meanwhile"):
            move_within_turn(turn, 2, expected=1, how="by hand", reason="x")
    assert champion(tracker, "m") == 1
    assert len(history(tracker, "m")) == 1


def test_a_flag_is_renewed_while_its_process_lives(tracker: Tracker) -> None:
    registered(tracker, "d1")
    with one_at_a_time(tracker, "m", dead_after=0.2) as turn:
        seen = set[str]()

        def renewed() -> bool:
            seen.add(tracker.client.get_registered_model("m").tags[turn.key])
            return len(seen) > 3

        wait_for(renewed, 60)
    assert not [thread for thread in threading.enumerate() if thread.name == "turn"]
    assert turn.key not in tracker.client.get_registered_model("m").tags


def test_the_best_stays_whoever_comes_last(tracker: Tracker) -> None:
    from labelstack.registry.promotion import promote_if_better

    for i, wrong in enumerate((0.3, 0.02, 0.2)):
        promote_if_better(tracker, "m", registered(tracker, f"d{i}", scored(sets(wrong))).version, FMetric())
    assert aliases(tracker) == {"champion": 2, "candidate": 3}
