from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from labelstack.cli import stages
from labelstack.params import load_params
from labelstack.params.notify import STAGES, NotifySection
from labelstack.support.errors import InputProblems

ROOT = Path(__file__).resolve().parents[2]
SECRET = "tgram://123456789:abcdefg_hijklmnop/987"


def problems(tmp_path: Path, **section: object) -> list[str]:
    content = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"notify": section}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    try:
        load_params(tmp_path / "params.yaml")
    except InputProblems as error:
        return error.problems
    return []


def test_stages_are_those_of_the_command_line() -> None:
    named = {command.name or command.callback.__name__ for command in stages.registered_commands if command.callback}
    assert set(STAGES) == named == set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])


def test_nobody_is_told_of_anything_by_default() -> None:
    assert not NotifySection().on
    assert not any(NotifySection().tells_end(stage) or NotifySection().tells_failure(stage) for stage in STAGES)


def test_all_stands_for_every_stage() -> None:
    section = NotifySection(ends=["blend"], failures=["all"])
    assert [stage for stage in STAGES if section.tells_end(stage)] == ["blend"]
    assert all(map(section.tells_failure, STAGES))


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"ends": ["trains"]}, "notify.ends: unknown stage 'trains'; did you mean 'train'?"),
        ({"failures": ["all", "train"]}, "notify.failures: must name each stage once, or be [all]"),
        ({"ends": ["train", "train"]}, "notify.ends: must name each stage once"),
        ({"timeout_s": 0}, "notify.timeout_s: input should be greater than 0"),
        ({"timeout_s": 1000}, "notify.timeout_s: input should be less than or equal to 120"),
        ({"x": "y"}, "notify.x: unknown key (known here: ends, failures, file, timeout_s)"),
    ],
)
def test_what_cannot_be_meant_is_said(tmp_path: Path, section: dict[str, object], said: str) -> None:
    (found,) = problems(tmp_path, **section)
    assert found.startswith(said)


@pytest.mark.parametrize("section", [{"file": SECRET}, {"url": SECRET}, {"file": SECRET, "ends": ["nothing"]}])
def test_a_url_in_params_is_refused_and_not_shown(tmp_path: Path, section: dict[str, object]) -> None:
    found = problems(tmp_path, **section)
    assert found
    assert "abcdefg" not in " ".join(found)
    if "file" in section:
        assert any("put the URL into such a file or into LABELSTACK_NOTIFY_URL" in one for one in found)
