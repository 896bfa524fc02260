from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import dask
import distributed
import numpy as np
import pytest
from distributed.security import Security
from moto.server import ThreadedMotoServer

from cluster import Cluster, free_port
from labelstack.compute import cluster as engine_cluster
from labelstack.compute import worker as engine_worker
from labelstack.compute.engine import Engine
from labelstack.compute.jobs import plain, run_here
from labelstack.params.engine import EngineSection as Settings
from labelstack.params.stackers import RidgeStackerSection
from labelstack.stacking.fold_predictions import out_of_fold, run_job
from labelstack.stacking.stackers.construction import make_stacker
from labelstack.support.errors import UserError
from labelstack.support.storage import read_json, sha256

# A worker that finds this first on its path dies or dawdles over a task that asks for it.
TROUBLE = """
import json, os, time
from platform import python_version
read = json.loads
def loads(text, *arguments, **named):
    if '"die"' in str(text):
        os._exit(1)
    if '"slow"' in str(text):
        time.sleep(2)
    return read(text, *arguments, **named)
json.loads = loads
"""
# Another copy of labelstack is not what coverage is about.
UNMEASURED = {"COVERAGE_PROCESS_CONFIG": "", "COVERAGE_PROCESS_START": ""}
OLD_PYTHON = "import platform\nplatform.python_version = lambda: '3.9.1'\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engine")


CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        for key, value in CREDENTIALS.items():
            environment.setenv(key, value)
        yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def cluster(folder: Path, s3: str) -> Iterator[Cluster]:
    with Cluster(folder / "cluster", ("a", "b")) as cluster:
        yield cluster


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def on(cluster: Cluster, **settings: Any) -> Engine:
    return Engine(Settings(scheduler=cluster.address, **settings))


def first_on_path(folder: Path, **modules: str) -> dict[str, str]:
    """An environment in which Python finds these modules first."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}


def test_without_a_scheduler_jobs_run_here_as_their_results_are_taken(workspace: Path) -> None:
    with Engine(Settings()) as engine:
        assert engine.local
        results = engine.map(plain, [{"number": 1}, {"number": (2, 3)}, {"set": {4}}])
        assert next(results) == {"number": 1}
        assert next(results) == {"number": [2, 3]}
        with pytest.raises(TypeError):
            next(results)


def test_the_cluster_gives_the_same_results_in_the_same_order(cluster: Cluster, workspace: Path) -> None:
    jobs = [{"number": number, "share": number / 7, "names": ["ä", None]} for number in range(40)]
    with on(cluster) as engine:
        assert not engine.local
        assert list(engine.map(plain, jobs, desc="count")) == list(run_here(plain, jobs)) == jobs
        assert list(engine.map(plain, [])) == []
        first = engine.map(plain, jobs)
        assert next(first) == jobs[0]
        first.close()
        assert list(engine.map(plain, jobs[:2])) == jobs[:2]


def test_paths_start_from_the_workspace_and_absolute_ones_below_it_fit_too(cluster: Cluster, workspace: Path) -> None:
    (workspace / "here.json").write_text('{"found": true}')
    with on(cluster) as engine:
        assert list(engine.map(read_json, ["here.json", f"{workspace}/here.json"])) == [{"found": True}] * 2


def test_the_users_mistakes_read_the_same_from_a_worker(cluster: Cluster, workspace: Path) -> None:
    with pytest.raises(UserError) as here:
        list(run_here(read_json, ["absent.json"]))
    with pytest.raises(UserError) as there, on(cluster) as engine:
        list(engine.map(read_json, ["absent.json"]))
    assert str(there.value) == str(here.value) == "absent.json: not found"


def test_other_errors_name_the_task(cluster: Cluster, workspace: Path) -> None:
    with pytest.raises(TypeError) as error, on(cluster, retries=0) as engine:
        list(engine.map(read_json, [{}], desc="reading"))
    assert error.value.__notes__ == [f"in task reading 0 on {cluster.address}"]


@pytest.mark.parametrize("function", [lambda job: job, json.dumps, Engine.map, first_on_path])
def test_only_functions_that_workers_can_import_are_sent(
    cluster: Cluster, workspace: Path, function: Callable[[Any], Any]
) -> None:
    with pytest.raises(ValueError, match="top level of a module of labelstack"), on(cluster) as engine:
        list(engine.map(function, [{}]))


def test_a_promised_file_that_does_not_appear_is_missed(cluster: Cluster, workspace: Path) -> None:
    with pytest.raises(UserError, match=r"never\.npz: written by a worker, not seen here"):
        list(on(cluster, timeout_s=0.3).map(plain, [{}], writes=lambda job: ["never.npz"]))


def test_an_address_where_nobody_answers_is_told_within_seconds(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    tries: list[float] = []

    class Counted(distributed.Client):  # type: ignore[misc]
        def __init__(self, *given: Any, **more: Any) -> None:
            tries.append(more["timeout"])
            super().__init__(*given, **more)

    monkeypatch.setattr(engine_cluster, "Client", Counted)
    with pytest.raises(UserError, match=f"{address}: no answer within 1 s"):
        list(Engine(Settings(scheduler=address, timeout_s=1)).map(plain, [{}]))
    assert tries == [1]


def test_a_server_that_is_no_scheduler_is_told(workspace: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UserError, match=f"{address}: no answer within 1 s"):
            list(Engine(Settings(scheduler=address, timeout_s=1)).map(plain, [{}]))


def test_all_that_is_wrong_with_workers_is_told_at_once(folder: Path, workspace: Path) -> None:
    other = folder / "other"
    shutil.copytree(
        Path(engine_worker.__file__).parents[1], other / "labelstack", ignore=shutil.ignore_patterns("*.pyc")
    )
    (other / "labelstack/__init__.py").write_text('__version__ = "0.0.1"\n')
    (folder / "none/labelstack").mkdir(parents=True)
    (folder / "none/labelstack/__init__.py").write_text("")
    with Cluster(folder / "mixed", ("good",)) as mixed:
        mixed.add("other", environment=first_on_path(other) | UNMEASURED)
        mixed.add("none", environment=first_on_path(folder / "none") | UNMEASURED)
        mixed.wait_for("good", "other", "none")
        with pytest.raises(UserError) as error:
            list(on(mixed, workspace="/nowhere").map(plain, [{}]))
        text = str(error.value)
        assert f"labelstack 0.0.1, here {engine_worker.versions()['labelstack']}" in text
        assert text.count("code ") == 1
        assert text.count("labelstack cannot be imported there") == 1
        assert text.count("does not see this workspace at /nowhere") == 2
        mixed.add("old", environment=first_on_path(folder / "old", sitecustomize=OLD_PYTHON))
        mixed.wait_for("good", "other", "none", "old")
        with pytest.raises(UserError, match=rf"Python 3\.9\.1, here {platform.python_version()}"):
            list(on(mixed).map(plain, [{}]))
    assert list(workspace.iterdir()) == []


def test_a_worker_that_comes_later_with_other_code_does_no_task(
    cluster: Cluster, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with on(cluster) as engine:
        list(engine.map(plain, [{}]))
        changed = engine_worker.versions() | {"code": "0123456789abcdef"}
        monkeypatch.setattr(engine_worker, "versions", lambda: changed)
        with pytest.raises(UserError, match="runs other code of labelstack than the client"):
            list(engine.map(plain, [{}]))


@pytest.fixture(scope="module")
def troubled(folder: Path) -> Iterator[Cluster]:
    """A scheduler that blames a task for the second death of its workers; each test starts the workers it needs."""
    trouble = first_on_path(folder / "trouble", sitecustomize=TROUBLE)
    with Cluster(folder / "troubled", (), trouble | {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}) as cluster:
        yield cluster


def test_a_cluster_without_workers_is_told(troubled: Cluster, workspace: Path) -> None:
    with pytest.raises(UserError, match="has no workers after"):
        list(on(troubled, timeout_s=0.5).map(plain, [{}]))


def test_the_task_of_a_killed_worker_is_done_by_another(troubled: Cluster, workspace: Path) -> None:
    with troubled.only("a", "b"), on(troubled) as engine:
        killer = threading.Thread(target=troubled.kill_when_busy, args=("b",))
        killer.start()
        jobs = [{"slow": number} for number in range(3)]
        assert list(engine.map(plain, jobs)) == jobs
        killer.join()
        assert "b" not in troubled.processes


def test_a_task_that_kills_every_worker_is_named(troubled: Cluster, workspace: Path) -> None:
    with (
        troubled.only("a", "b"),
        on(troubled, timeout_s=30) as engine,
        pytest.raises(UserError, match="rows 0: every worker that took this task died"),
    ):
        list(engine.map(plain, [{"die": 1}], desc="rows"))


def test_a_cluster_that_loses_its_last_worker_is_told(troubled: Cluster, workspace: Path) -> None:
    with (
        troubled.only("a"),
        on(troubled, timeout_s=2) as engine,
        pytest.raises(UserError, match="no worker left for 2 s"),
    ):
        list(engine.map(plain, [{"die": 1}]))


def test_a_worker_with_threads_does_one_task_at_a_time(troubled: Cluster, tmp_path: Path) -> None:
    found: dict[str, list[Any]] = {}

    def work(name: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "name.json").write_text(json.dumps(name))
        with Engine(Settings(scheduler=troubled.address), tmp_path / name) as engine:
            found[name] = list(engine.map(read_json, ["name.json"] * 60))

    with troubled.only("a", options=("--nthreads", "4")):
        both = [threading.Thread(target=work, args=(name,)) for name in ("left", "right")]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
    assert found == {name: [name] * 60 for name in ("left", "right")}


def test_a_scheduler_that_dies_is_told(folder: Path, workspace: Path) -> None:
    trouble = first_on_path(folder / "trouble", sitecustomize=TROUBLE)
    with Cluster(folder / "headless", ("a",), trouble) as headless, on(headless, timeout_s=30) as engine:
        results = engine.map(plain, [{}, {"slow": 1}])
        assert next(results) == {}
        headless.kill("scheduler")
        with pytest.raises(UserError, match="connection to the scheduler was lost"):
            next(results)


def test_a_connection_may_be_encrypted(folder: Path, workspace: Path) -> None:
    security = Security.temporary()
    keys = folder / "keys"
    keys.mkdir()
    settings = {}
    for role in ("scheduler", "worker", "client"):
        for kind, content in (("cert", security.tls_scheduler_cert), ("key", security.tls_scheduler_key)):
            (keys / f"{kind}.pem").write_text(str(content))
            settings[f"distributed.comm.tls.{role}.{kind}"] = str(keys / f"{kind}.pem")
    settings["distributed.comm.tls.ca-file"] = str(keys / "cert.pem")
    environment = {f"DASK_{key.replace('.', '__').replace('-', '_').upper()}": value for key, value in settings.items()}
    with (
        dask.config.set(settings),
        Cluster(folder / "tls", ("a",), environment, protocol="tls") as encrypted,
        on(encrypted) as engine,
    ):
        assert encrypted.address.startswith("tls://")
        assert list(engine.map(plain, [{"secret": 1}])) == [{"secret": 1}]


def bucket(s3: str, name: str) -> Any:
    client = boto3.client("s3", endpoint_url=s3)
    client.create_bucket(Bucket=name)
    return client


def fits(engine: Engine | None, work: Path) -> dict[str, str]:
    """Digests of all files of a ridge stacker's fits in three folds, done by an engine or (None) in place."""
    rng = np.random.default_rng(0)
    cube, Y = rng.random((30, 2, 4), np.float32), rng.random((30, 4)) > 0.5
    send = None
    if engine is not None:
        send = partial(
            engine.map,
            reads=lambda job: [Path(job["work"]) / "inputs.npz"],
            writes=lambda job: [Path(job["work"]) / f"fold-{job['without'][0]}"],
        )
    out_of_fold(
        lambda: make_stacker(RidgeStackerSection()),
        cube,
        Y,
        np.arange(30) % 3,
        test_cube=cube[:5],
        work=work,
        map_=send,
    )
    files = sorted(file for file in work.rglob("*") if file.is_file() and file.name != "inputs.npz")
    return {file.relative_to(work).as_posix(): sha256(file) for file in files}


def test_workers_without_the_workspace_get_and_give_files_through_s3(
    cluster: Cluster, workspace: Path, s3: str
) -> None:
    client = bucket(s3, "files")
    with on(cluster, workspace="s3://files/work", s3_endpoint_url=s3) as engine:
        made = fits(engine, workspace / "there")
    assert made == fits(None, workspace / "here")
    assert len(made) == 3 * 5  # key, held-out rows, test rows, and two files of the stacker
    objects = [item["Key"] for item in client.list_objects_v2(Bucket="files")["Contents"]]
    assert {key.rsplit("/", 1)[1] for key in objects} == {*made.values(), sha256(workspace / "there/inputs.npz")}
    assert all(key.startswith("work/") for key in objects)
    scratch = [file for file in cluster.folder.rglob("labelstack-*/**/*") if file.is_file()]
    assert {file.name for file in scratch} <= {
        "inputs.npz",
        "key.json",
        "held_out.npy",
        "test.npy",
        "config.json",
        "arrays.zip",
    }


def test_single_files_travel_too_and_damaged_objects_are_refused(cluster: Cluster, workspace: Path, s3: str) -> None:
    client = bucket(s3, "damaged")
    (workspace / "facts.json").write_text('{"n": 1}')
    one = [{"path": "facts.json"}]
    read = partial(dict, reads=lambda job: ["facts.json", "absent.json"])()
    with on(cluster, workspace="s3://damaged/x", s3_endpoint_url=s3) as engine:
        assert list(engine.map(read_json, ["facts.json"], **read)) == [{"n": 1}]
        (workspace / "facts.json").write_text('{"n": 2}')
        assert list(engine.map(plain, one, **read, writes=lambda job: ["facts.json"])) == one
        assert (workspace / "facts.json").read_text() == '{"n": 2}'
    key = next(
        item["Key"]
        for item in client.list_objects_v2(Bucket="damaged")["Contents"]
        if item["Key"].endswith(sha256(workspace / "facts.json"))
    )
    client.put_object(Bucket="damaged", Key=key, Body=b"something else")
    with (
        on(cluster, workspace="s3://damaged/x", s3_endpoint_url=s3) as engine,
        pytest.raises(UserError, match="holds other bytes"),
    ):
        list(engine.map(plain, one, reads=lambda job: ["facts.json"], writes=lambda job: ["new"]))


def test_a_bucket_that_is_not_there_is_named(cluster: Cluster, workspace: Path, s3: str) -> None:
    (workspace / "facts.json").write_text("{}")
    with (
        on(cluster, workspace="s3://nobucket/x", s3_endpoint_url=s3) as engine,
        pytest.raises(UserError, match=r"engine\.workspace s3://nobucket/x: .*is the bucket there"),
    ):
        list(engine.map(read_json, ["facts.json"], reads=lambda job: ["facts.json"]))


def test_paths_outside_the_workspace_are_not_sent(cluster: Cluster, workspace: Path, s3: str) -> None:
    bucket(s3, "outside")
    with (
        on(cluster, workspace="s3://outside/x", s3_endpoint_url=s3) as engine,
        pytest.raises(UserError, match="passwd"),
    ):
        list(engine.map(plain, [{}], reads=lambda job: ["/etc/passwd"]))


def test_a_done_fit_is_not_done_again(workspace: Path) -> None:
    with Engine(Settings()) as engine:
        made = fits(engine, workspace / "work")
        times = [file.stat().st_mtime_ns for file in sorted((workspace / "work").rglob("*.npz"))]
        job = {"work": str(workspace / "work"), "key": "", "kind": "ridge", "params": {}, "without": [0]}
        job["key"] = read_json(workspace / "work/fold-0/key.json")["key"]
        assert list(engine.map(run_job, [job])) == [None]
        assert [file.stat().st_mtime_ns for file in sorted((workspace / "work").rglob("*.npz"))] == times
    assert made == fits(None, workspace / "again")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        *((address, "must be tcp://host:port") for address in ("localhost:8786", "http://host:8786", "tcp://host")),
        ("tcp://host:port", "a port is a number"),
        ("", "must not be empty"),
    ],
)
def test_addresses_of_another_form_are_refused(address: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings(scheduler=address)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        *((place, "absolute path") for place in ("relative/folder", "s3://bucket", "http://host/folder")),
        ("", "must not be empty"),
    ],
)
def test_workspaces_of_another_form_are_refused(place: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings(workspace=place)
