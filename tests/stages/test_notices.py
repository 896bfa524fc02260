"""What people are told of a stage: of its end, of its failure, of a kill; and that telling harms nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from inbox import Inbox, inbox
from labelstack.commands import check
from labelstack.params.notify import NotifySection
from labelstack.stages.notices import Teller, destinations, killed, main_run, reason, score_line, telling
from labelstack.support.errors import InputProblems, UserError
from labelstack.tracking.opened import say_opened

ROOT = Path(__file__).resolve().parents[2]
DEAD = "json://person:hunter2hunter2@127.0.0.1:9/secretpath"


@pytest.fixture
def server() -> Iterator[Inbox]:
    with inbox() as kept:
        yield kept


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml that tells of everything, and no proxies on the way."""
    folder = tmp_path / "garments"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in [*os.environ]:
        if name.upper().endswith("_PROXY") or name.startswith("LABELSTACK_NOTIFY"):
            monkeypatch.delenv(name)
    notify(folder)
    return folder


def notify(folder: Path, **change: Any) -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["notify"] = {"ends": ["all"], "failures": ["all"], "timeout_s": 60} | change
    content["sample"] |= {"n_train": 20, "n_validation": 20, "n_test": 10, "image_size": 32}
    (folder / "params.yaml").write_text(yaml.safe_dump(content))


def run(name: str, metrics: dict[str, float]) -> Any:
    tracker = SimpleNamespace(url=lambda run_id: f"http://person:hunter2hunter2@mlflow:5000/#/runs/{run_id}")
    return SimpleNamespace(name=name, run_id=f"id-of-{name}", metrics=metrics, tracker=tracker)


def test_the_end_is_told_with_stage_model_score_interval_and_link(
    here: Path, server: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELSTACK_NOTIFY_URL", server.url)
    scores = {"samples_f1_cross_fitted": 0.7449, "samples_f1_cross_fitted_low": 0.728}
    with telling("score", ["plain_cnn"]):
        say_opened(run("train/plain_cnn", scores | {"samples_f1_cross_fitted_high": 0.761}))
        say_opened(run("train/plain_cnn-0", {}))
    (message,) = server.messages
    assert message["title"] == "garments: score plain_cnn ended"
    assert message["message"].split("\n")[1:] == [
        "samples F1 0.745 (0.728 to 0.761), cross-fitted",
        "http://mlflow:5000/#/runs/id-of-train/plain_cnn",
    ]


def test_a_failure_is_told_and_raised(here: Path, server: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELSTACK_NOTIFY_URL", server.url)
    wrong = InputProblems("https://person:hunter2hunter2@host/labels.csv", ["a label <b>that</b> is wrong"])
    with pytest.raises(InputProblems), telling("ingest"):
        raise wrong
    with pytest.raises(ZeroDivisionError), telling("train", ["wide", "0"]):
        raise ZeroDivisionError("of hunter2hunter2")
    assert sorted(server.titles) == ["ingest failed", "train wide 0 failed"]
    said = {message["title"]: message["message"].split("\n")[0] for message in server.messages}
    assert said["garments: ingest failed"] == "https://host/labels.csv: 1 problem"
    assert said["garments: train wide 0 failed"] == "ZeroDivisionError; the terminal says more"
    assert not any(b"hunter2" in body for body in server.bodies)
    assert list((here / "data/work/running").iterdir()) == []


def test_stages_that_are_not_named_tell_nothing(here: Path, server: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELSTACK_NOTIFY_URL", server.url)
    notify(here, ends=["blend"], failures=["train"])
    with telling("train"):
        pass
    with pytest.raises(UserError), telling("blend"):
        raise UserError("no")
    assert server.bodies == []
    with telling("blend"):
        pass
    assert server.titles == ["blend ended"]


def typed(folder: Path, *command: str) -> subprocess.Popen[str]:
    place = Path(sys.executable).with_name("labelstack")
    return subprocess.Popen(
        [str(place), *command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_stage_killed_with_9_is_told_by_the_next_one_once(
    here: Path, server: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELSTACK_NOTIFY_URL", server.url)
    content = yaml.safe_load((here / "params.yaml").read_text())
    content["sample"]["n_train"] = 1_000_000  # long enough to be killed
    (here / "params.yaml").write_text(yaml.safe_dump(content))
    running = here / "data/work/running"
    process = typed(here, "stage", "sample")
    deadline = time.monotonic() + 300
    while not list(running.glob("*.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert killed(running) == []  # it runs, and its lock says so
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert server.bodies == []
    notify(here)
    for expected in (["sample was killed", "sample ended"], ["sample ended"]):
        server.bodies.clear()
        process = typed(here, "stage", "sample")
        said = "".join(process.communicate(timeout=300))
        assert process.returncode == 0, said
        assert sorted(server.titles, reverse=True) == expected
        assert "notify" not in said
    assert list(running.iterdir()) == []


def test_a_run_that_was_open_when_its_stage_was_killed_is_named(here: Path, server: Inbox) -> None:
    program = (
        "import os, signal\n"
        "from types import SimpleNamespace as N\n"
        "from labelstack.stages.notices import telling\n"
        "from labelstack.tracking.opened import say_opened\n"
        "with telling('train', ['wide']):\n"
        "    say_opened(N(name='train/wide', run_id='7', metrics={}, tracker=N(url=lambda i: f'http://host/{i}')))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=here, check=False).returncode == -signal.SIGKILL
    (note,) = killed(here / "data/work/running")
    assert (note["called"], note["links"]) == ("train wide", ["http://host/7"])
    assert killed(here / "data/work/running") == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (DEAD, "a message was not taken; does LABELSTACK_NOTIFY_URL name the right server?"),
        ("nosuch://hunter2hunter2", "LABELSTACK_NOTIFY_URL holds a URL that apprise does not know"),
        ("hunter2hunter2", "LABELSTACK_NOTIFY_URL holds a URL that apprise does not know"),
        ("", "nobody is told: set LABELSTACK_NOTIFY_URL, or notify.file in params.yaml"),
    ],
)
def test_a_message_that_cannot_be_sent_is_one_line_without_the_secret(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], url: str, said: str
) -> None:
    monkeypatch.setenv("LABELSTACK_NOTIFY_URL", url)
    with telling("train"):
        pass
    out, err = capfd.readouterr()
    assert err.startswith(f"labelstack: notify: {said}")
    assert err.count("\n") == 1
    assert "hunter2" not in out + err


def test_a_server_that_does_not_answer_is_waited_for_no_longer_than_said(
    here: Path, server: Inbox, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LABELSTACK_NOTIFY_URL", f"{server.url}?rto=100&cto=100")
    notify(here, timeout_s=0.5)
    server.slow = 100
    began = time.monotonic()
    with telling("train"):
        pass
    assert time.monotonic() - began < 30  # and not a hundred
    assert capfd.readouterr().err == "labelstack: notify: a message was not sent within 0.5 s (notify.timeout_s)\n"


def test_a_stage_whose_message_breaks_goes_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(self: Teller, title: str, lines: list[str]) -> None:
        raise RuntimeError("hunter2hunter2")

    monkeypatch.setattr(Teller, "_send", broken)
    with telling("train"):
        pass
    with pytest.raises(UserError, match="the stage's own"), telling("train"):
        raise UserError("the stage's own")
    assert capfd.readouterr().err == "labelstack: notify: nobody was told (RuntimeError)\n" * 2


def test_the_urls_of_a_file_are_read_where_the_environment_has_none(
    here: Path, server: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = here / "urls"
    file.write_text(f"# mine\n\n  {server.url}\n")
    file.chmod(0o600)
    notify(here, file="urls")
    with telling("train"):
        pass
    assert server.titles == ["train ended"]
    monkeypatch.setenv("LABELSTACK_NOTIFY_URL", "a://b c://d")
    assert destinations(NotifySection(file="urls")) == ["a://b", "c://d"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o601])
def test_a_file_that_others_may_read_is_refused(
    here: Path, server: Inbox, capfd: pytest.CaptureFixture[str], mode: int
) -> None:
    file = here / "urls"
    file.write_text(server.url)
    file.chmod(mode)
    with pytest.raises(UserError, match=rf"urls: has the mode {mode:o}, .* it must be 600: chmod 600 urls$"):
        destinations(NotifySection(file="urls"))
    if mode == 0o644:
        notify(here, file="urls")
        with pytest.raises(UserError, match="has the mode 644"):
            check.run()
        with telling("train"):
            pass
        assert "must be 600" in capfd.readouterr().err
        assert server.bodies == []


def test_what_is_no_file_is_said(here: Path) -> None:
    os.mkfifo(here / "pipe", 0o600)
    (here / "odd").write_bytes(b"json://\xff")
    (here / "long").write_bytes(b"#" * 70_000)
    for name in ("odd", "long"):
        (here / name).chmod(0o600)
    for name, said in (
        ("absent", r"cannot be read \(No such file"),
        ("pipe", "must be a file"),
        ("odd", "must be UTF-8 text"),
        ("long", "is longer than 65,536 bytes"),
    ):
        with pytest.raises(UserError, match=f"^notify.file: {name}: {said}"):
            destinations(NotifySection(file=name))


def test_check_says_when_nothing_says_where_to(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check.run()
    assert "notify: nobody is told: set LABELSTACK_NOTIFY_URL" in capsys.readouterr().out
    notify(here, ends=[], failures=[])
    check.run()
    assert "notify" not in capsys.readouterr().out


def test_where_nobody_is_told_nothing_is_imported_or_written(here: Path) -> None:
    notify(here, ends=[], failures=[])
    program = (
        "import sys\n"
        "sys.argv = ['labelstack', 'stage', 'sample']\n"
        "from labelstack.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print({'apprise', 'labelstack.tracking.opened'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=here, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("set()\n"), done.stderr
    assert not (here / "data/work/running").exists()


def test_the_score_of_a_run_in_words() -> None:
    whole = {"samples_f1_cross_fitted": 0.5, "samples_f1_cross_fitted_low": 0.4, "samples_f1_cross_fitted_high": 0.625}
    assert score_line(whole, "samples_f1", "samples F1") == "samples F1 0.500 (0.400 to 0.625), cross-fitted"
    assert score_line({"samples_f1_cross_fitted": 0.5}, "samples_f1", "samples F1") == "samples F1 0.500, cross-fitted"
    held_out = score_line({"holdout_samples_f1": 0.25}, "samples_f1", "samples F1")
    assert held_out == "samples F1 0.250 on held-out rows, in the last epoch"
    assert score_line({"loss": 1.0}, "samples_f1", "samples F1") == ""


def test_the_run_that_a_stage_is_about() -> None:
    ensemble, network = run("blend/ensemble", {}), run("train/wide", {})
    assert main_run([network, ensemble]) == [ensemble]
    assert main_run([network]) == [network]
    assert main_run([]) == []


def test_a_reason_is_one_short_line() -> None:
    assert reason(UserError("one\ntwo")) == "one"
    assert len(reason(UserError("x" * 1000))) == 301
    assert reason(KeyboardInterrupt()) == "Ctrl-C"
