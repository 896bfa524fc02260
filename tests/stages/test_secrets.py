"""Secrets are planted wherever a person may put them; then every output of every command is searched for them."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from inbox import inbox
from planted import USER, Planted, files, git_objects, leaks
from postgres import postgres
from s3_server import objects, s3_server
from team_server import free_port, refused, team_server
from tiny import PATIENCE, Workspace, environment, typed

# Places that hold a data set's own addresses: its files, the manifests made of them, and the validators of images.
DATA = ("data/mine/*", "data/manifest/*", "data/work/etags/*")


@contextmanager
def image_server(folder: Path) -> Iterator[int]:
    """A web server that wants a user and password; yields its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            file = folder / urlsplit(self.path).path.lstrip("/")
            found = file.is_file() and self.headers.get("Authorization", "").startswith("Basic ")
            self.send_response(200 if found else 404)
            self.send_header("ETag", '"1"')
            self.end_headers()
            self.wfile.write(file.read_bytes() if found else b"")

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()


class Shell:
    """A person's shell in a workspace, with secrets in its environment; keeps what every command prints."""

    def __init__(self, root: Path, settings: dict[str, str]) -> None:
        inherited = {key: value for key, value in environment(quick=True).items() if not key.upper().endswith("_PROXY")}
        self.root, self.environment = root, inherited | settings
        self.said: dict[str, bytes] = {}

    def __call__(self, *command: str, ok: bool = True, **change: str) -> str:
        ended = subprocess.run(
            command, cwd=self.root, env=self.environment | change, capture_output=True, timeout=PATIENCE, check=False
        )
        self.said[f"{len(self.said)} $ {shlex.join(command)}"] = ended.stdout + ended.stderr
        text = (ended.stdout + ended.stderr).decode()
        assert (ended.returncode == 0) == ok, f"{command} → {ended.returncode}\n{text}"
        return text


def plant_data(planted: Planted, root: Path, port: int) -> str:
    """A data set whose first images have addresses with a password and a signature; returns one of them."""
    mine = root / "data/mine"
    mine.mkdir(parents=True)
    shutil.copytree(root / "data/sample/images", mine / "images")
    (mine / "labels.csv").write_bytes((root / "data/sample/labels.csv").read_bytes())
    login, signature = planted["image password"], planted["image signature"]
    address = f"http://{USER}:{login}@127.0.0.1:{port}/%s?X-Amz-Signature={signature}&X-Amz-Date=1"
    for split in ("train", "validation", "test"):
        content = json.loads((root / f"data/sample/{split}.json").read_text())
        for number, image in enumerate(content["images"][:6]):
            path = image["url"][0] if isinstance(image["url"], list) else image["url"]
            image["url"] = [
                address % ("gone.jpg" if (split, number) == ("train", 0) else path.removeprefix("file:").lstrip("/"))
            ]
        (mine / f"{split}.json").write_text(json.dumps(content))
    return address


def plant_credentials(planted: Planted, root: Path, folder: Path) -> dict[str, str]:
    """Credentials in files and in the environment; returns the environment."""
    profile = folder / "aws"
    keys = ("access_key_id", planted["profile key"]), ("secret_access_key", planted["profile secret"])
    profile.write_text("[default]\n" + "".join(f"aws_{name} = {value}\n" for name, value in keys))
    subprocess.run(
        ["git", "remote", "add", "origin", f"https://{USER}:{planted['git token']}@git.example/labelstack.git"],
        cwd=root, check=True,
    )  # fmt: skip
    settings = {
        "AWS_SHARED_CREDENTIALS_FILE": str(profile),
        "AWS_ACCESS_KEY_ID": planted["key id"],
        "AWS_SECRET_ACCESS_KEY": planted["secret key"],
        "AWS_SESSION_TOKEN": planted["session token"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": planted["tracking password"],
        "MLFLOW_TRACKING_TOKEN": planted["tracking token"],
        "PGPASSWORD": planted["PGPASSWORD"],
        "NO_PROXY": "127.0.0.1,localhost",
    }
    proxy = f"http://{USER}:{planted['proxy password']}@127.0.0.1:{free_port()}"
    return settings | dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy)


def stages(shell: Shell) -> None:
    """Every stage but those that a change of addresses does not concern, then commit and push as the README says."""
    downloads = [f"stage download {split}" for split in ("train", "validation", "test")]
    last = [f"stage {name}" for name in ("evaluate", "submit", "register", "report")]
    networks = ["stage split", "stage train wide", "stage predict wide", "stage score wide"]
    # the other network predicts and is scored too, since an image less is there to stack
    fits = [
        *networks,
        "stage predict deep",
        "stage score deep",
        "stage stack cnn",
        "stage stack xgboost",
        "stage blend",
    ]
    said = shell(*typed("check", "stage ingest", *downloads, *fits, *last, "leaderboard"))
    assert said.count("images → data/images/") == 3


def share(shell: Shell, s3: str) -> None:
    """Push to a remote, with credentials kept in .dvc/config.local; commit."""
    shell("labelstack", "remote", "s3://bucket/dvc", "--endpoint-url", s3, "--save-credentials")
    shell("dvc", "commit", "--force", "--quiet")
    shell("dvc", "push", "--quiet")
    shell("git", "add", "--all")
    shell("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", "Run")
    shell("labelstack", "sync")


def look(shell: Shell, image: str, to: Path) -> None:
    """Commands that read, side by side."""
    show = shlex.join(["images", "show", "2", "--split", "train", "--to", str(shell.root / "shown.jpg")])
    rebuild = shlex.join(["rebuild", "1", "--to", str(to)])
    commands = [
        typed("compare labelstack/1 workspace", "promote", rebuild, "images status", show),
        ("labelstack", "predict", image),
        ("dvc", "metrics", "show"),
    ]
    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(shell, *command) for command in commands]:
            one.result()


def fail(shell: Shell, planted: Planted, image: str, s3: str) -> None:
    """Commands that fail, where messages are likely to show what they were given."""
    dead = f"http://{USER}:{planted['dead server password']}@no-such-host.invalid:5000"
    uri = f"http://{USER}:{planted['password in params']}@127.0.0.1:5000"
    params = yaml.safe_load((shell.root / "params.yaml").read_text())
    elsewhere = shell.root.parent / "params"
    elsewhere.mkdir()
    (elsewhere / "params.yaml").write_text(yaml.safe_dump(params | {"tracking": {"uri": uri}}))
    asked = Shell(elsewhere, shell.environment)
    assert "tracking.uri: holds credentials" in asked("labelstack", "check", ok=False)
    asked("labelstack", "stage", "sample", ok=False)
    shell.said |= {f"params: {key}": value for key, value in asked.said.items()}

    gone = re.sub("/images/[^?]*", "/images/gone.jpg", image)
    closed = f"http://127.0.0.1:{free_port()}"
    key = planted["key in a bucket's address"]
    failing: list[tuple[tuple[str, ...], dict[str, str]]] = [
        (("labelstack", "stage", "sample"), {"MLFLOW_TRACKING_URI": dead}),
        (("labelstack", "stage", "register"), {"MLFLOW_TRACKING_URI": dead, "NO_PROXY": "", "no_proxy": ""}),
        (("labelstack", "sync"), {"MLFLOW_TRACKING_URI": f"ftp://{USER}:{planted['odd address']}@host"}),
        (("labelstack", "predict", gone), {}),
        (
            typed(
                f"remote s3://bucket/x --endpoint-url {closed}",
                f"remote s3://no-such-bucket/x --endpoint-url {s3}",
                f"remote s3://{USER}:{key}@bucket/x",
                "compare nothing workspace",
                all_fail=True,
            ),
            {},
        ),
    ]
    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(shell, *command, ok=False, **change) for command, change in failing]:
            assert "Traceback" not in one.result()


def unsent(shell: Shell, planted: Planted, file: Path) -> None:
    """Stages whose messages go nowhere, or nowhere that is allowed."""
    gone = f"json://{USER}:{planted['notify password of a dead server']}@127.0.0.1:{free_port()}"
    unknown = f"nosuch://{planted['notify token of no service']}"
    for url, said in ((gone, "was not taken"), (unknown, "apprise does not know")):
        assert said in shell("labelstack", "stage", "settings", LABELSTACK_NOTIFY_URL=url)
    file.write_text(f"json://127.0.0.1/{planted['notify token in an open file']}\n")
    file.chmod(0o644)
    params = yaml.safe_load((shell.root / "params.yaml").read_text())
    params["notify"]["file"] = str(file)
    (shell.root / "params.yaml").write_text(yaml.safe_dump(params))
    assert "must be 600" in shell("labelstack", "check", ok=False, LABELSTACK_NOTIFY_URL="")
    assert "must be 600" in shell("labelstack", "stage", "settings", LABELSTACK_NOTIFY_URL="")


def test_no_planted_secret_comes_out_anywhere(
    copied: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, planted = copied.root, Planted()
    settings = plant_credentials(planted, root, tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):  # moto's own, which take any
        monkeypatch.setenv(name, "test")
    server_keys = {"AWS_ACCESS_KEY_ID": planted["server key"], "AWS_SECRET_ACCESS_KEY": planted["server secret"]}
    place = tmp_path / "team"
    place.mkdir()
    with (
        postgres(planted["database password"]) as database,
        s3_server() as s3,
        image_server(root / "data/sample") as port,
        inbox() as told,
    ):
        database.create("team")
        server = {
            "LABELSTACK_DATABASE": database.uri("team", password=True),
            "LABELSTACK_ARTIFACTS": "s3://bucket/mlflow",
            "MLFLOW_S3_ENDPOINT_URL": s3,
        } | server_keys
        wrong = {"LABELSTACK_DATABASE": database.uri("team").replace("@", f":{planted['wrong password']}@")}
        said = refused(place, server | wrong)
        with team_server(place, server) as team:
            address = team.url.replace("://", f"://{USER}:{planted['password in the address']}@")
            notify = f"json://{USER}:{planted['notify password']}@127.0.0.1:{told.port}/{planted['notify token']}"
            shell = Shell(root, settings | {"MLFLOW_TRACKING_URI": address, "LABELSTACK_NOTIFY_URL": notify})
            image = plant_data(planted, root, port) % "images/test/1.jpg"
            copied.params(
                dataset={"root": "data/mine", "answers": None}, images={"allow_hosts": [f"127.0.0.1:{port}"]},
                notify={"ends": ["all"], "failures": ["all"]},
                models={name: model | {"epochs": 1} for name, model in copied.params()["models"].items()},
            )  # fmt: skip
            stages(shell)
            share(shell, s3)
            look(shell, image, tmp_path / "rebuilt")
            fail(shell, planted, image, s3)
            unsent(shell, planted, tmp_path / "urls")
            shell.said["server"] = said.encode() + team.log.read_bytes() + team.commands().encode()
        shell.said["database"] = database.dump("team") + database.log.read_bytes()
        stored = objects(s3)

    # That of `register` goes to the proxy, where nobody is.
    assert {"train wide ended", "blend ended", "sample failed"} <= set(told.titles)
    local = root / ".dvc/config.local"
    manifests = [f"*/{_md5_place(root / f'data/manifest/{s}.parquet')}" for s in ("train", "validation", "test")]
    data = (*DATA, *manifests)
    allowed = dict.fromkeys(("key id", "secret key", "session token"), (".dvc/config.local",))
    allowed |= dict.fromkeys(("image password", "image signature"), data)
    outputs = [*files(root), *files(tmp_path / "rebuilt"), *stored.items(), ("git", git_objects(root))]
    outputs += [(f"message {title}", body) for title, body in zip(told.titles, told.bodies, strict=True)]
    outputs += [(f"what {key.partition(' ')[0]} said", value) for key, value in shell.said.items()]

    assert leaks(planted, outputs, allowed) == []
    # The search finds what is there: planted places, through the same readers.
    assert planted.found_in(local.read_bytes()) == {"key id", "secret key", "session token"}
    assert local.stat().st_mode & 0o077 == 0
    found = leaks(planted, outputs, {})
    for place_ in ("data/mine/train.json", "data/manifest/train.parquet"):
        assert f"image signature in {place_}" in found
    assert any(entry.startswith("image password in dvc/files/md5/") for entry in found)
    assert any(key.startswith("mlflow/") for key in stored)


def _md5_place(file: Path) -> str:
    """Where DVC keeps a file, in its cache and in a remote."""
    digest = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
    return f"{digest[:2]}/{digest[2:]}"
