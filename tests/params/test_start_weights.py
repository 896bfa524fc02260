"""What a network may begin with, told before anything is downloaded."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from labelstack.params.models import ModelSection


@pytest.mark.parametrize(
    "weights",
    ["none", "imagenet", "a/b.safetensors", "c_notop.h5", "hf://timm/resnet34.tv_in1k", "hf://a/b/c.safetensors@main"],
)
def test_what_is_taken(weights: str) -> None:
    assert ModelSection(backbone="resnet34", weights=weights).weights == weights


@pytest.mark.parametrize("weights", ["a.pth", "b/model.pt", "pytorch_model.bin", "x.params", "hf://a/b/model.bin@main"])
def test_files_that_may_hold_programs_are_refused(weights: str) -> None:
    with pytest.raises(ValidationError, match=r"make a \.safetensors of it .* as docs/networks\.md shows"):
        ModelSection(backbone="resnet34", weights=weights)


@pytest.mark.parametrize("weights", ["hf://timm", "hf://a/b/c/d", "hf://a/b@", "https://a/b.safetensors", "~/a.h5"])
def test_other_addresses_are_refused(weights: str) -> None:
    with pytest.raises(ValidationError, match=r"must be (hf://owner/repository|a path on this machine)"):
        ModelSection(backbone="resnet34", weights=weights)
