"""Addresses of files on the Hugging Face Hub, and what is said where one cannot be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from labelstack.support.errors import UserError
from labelstack.support.hub import HubFile, hub_file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf://timm/resnet34.tv_in1k", HubFile("timm/resnet34.tv_in1k")),
        ("hf://timm/resnet34.tv_in1k@v1.2", HubFile("timm/resnet34.tv_in1k", revision="v1.2")),
        ("hf://a/b/deep/c-1.safetensors@0f", HubFile("a/b", "deep/c-1.safetensors", "0f")),
        ("hf://a/b/c.safetensors@refs/pr/3", HubFile("a/b", "c.safetensors", "refs/pr/3")),
        ("hf://a", None),
        ("hf://a/b/c.bin", None),
        ("hf://a/b@", None),
        ("hf://a/b/../c.safetensors", None),
        ("hf://user:word@a/b", None),
        ("weights/b.safetensors", None),
    ],
)
def test_addresses(text: str, expected: HubFile | None) -> None:
    assert hub_file(text) == expected


def test_a_file_is_asked_for_by_repository_name_and_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def fetch(repository: str, file: str, **more: Any) -> str:
        asked.append((repository, file, more))
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    assert HubFile("a/b", revision="0f").path() == tmp_path / "model.safetensors"
    assert asked == [("a/b", "model.safetensors", {"revision": "0f"})]


def test_offline_a_file_that_is_not_in_the_cache_is_said_how_to_come_by(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as caught:
        HubFile("timm/resnet34.tv_in1k", revision="v1").path()
    told = str(caught.value)
    assert told.startswith("weights: hf://timm/resnet34.tv_in1k/model.safetensors@v1: could not be had (")
    assert told.endswith("fetch model.safetensors of timm/resnet34.tv_in1k elsewhere, and set weights to its path")
