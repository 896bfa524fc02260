"""What a file of weights holds stands in data/settings.json, and in what `labelstack check` says."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml

from labelstack.commands.check import missing_weights
from labelstack.params import Params
from labelstack.stages.settings import settings
from labelstack.stages.weights_content import weights_sha256
from labelstack.support import hub
from tiny import REPOSITORY


def _params(weights: str) -> Params:
    content = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    name = next(iter(content["models"]))
    content["models"][name] |= {"backbone": "resnet34", "weights": weights, "options": {}, "image_size": 64}
    return Params.model_validate(content)


def test_other_bytes_under_one_name_are_another_beginning_of_that_network_alone(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"one")
    params = _params(str(file))
    before = settings(params)
    file.write_bytes(b"two")
    after = settings(params)
    name, *others = params.models
    (network,) = after["models"][name].values()
    assert network["weights_sha256"] == hashlib.sha256(b"two").hexdigest()
    assert before["models"][name] != after["models"][name]
    assert {other: before["models"][other] for other in others} == {other: after["models"][other] for other in others}


@pytest.mark.parametrize("weights", ["none", "a.h5", "absent.safetensors", "hf://timm/resnet34.tv_in1k"])
def test_settings_of_other_weights_have_no_digest_and_fetch_nothing(
    weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub.HubFile, "path", lambda self: pytest.fail("fetched"))
    assert "weights_sha256" not in str(settings(_params(weights)))


def test_a_file_of_the_hub_has_one_when_it_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"one")
    monkeypatch.setattr(hub.HubFile, "path", lambda self: tmp_path / self.file)
    assert weights_sha256("hf://a/b", fetch=True) == hashlib.sha256(b"one").hexdigest()


def test_a_file_that_is_not_there_is_told_with_its_models(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    name = next(iter(_params("none").models))
    assert missing_weights(_params(str(file))) == [f"{file}: not there yet; its weights are wanted by models.{name}"]
    file.touch()
    assert missing_weights(_params(str(file))) == []
