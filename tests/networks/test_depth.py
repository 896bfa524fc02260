"""Groups of layers and feature maps by stride, of every backbone of our own."""

from __future__ import annotations

import keras
import pytest

from labelstack.networks.backbones import build_backbone
from labelstack.networks.depth import flat_layers, layer_groups, pyramid
from labelstack.params.backbone_names import OWN
from labelstack.params.layer_groups import GroupCount, group_count

# Name → side of the image, groups, and the layer of each stride. Layers whose names Keras counts up are left out ("").
CHEAP = {
    "small_cnn": (32, 3, {2: "block_2_conv_2_relu", 4: "block_3_conv_2_relu", 8: "block_4_conv_2_relu", 16: ""}),
    "small_resnet": (32, 3, {2: "stage_2_block_2_relu_2", 4: "stage_3_block_2_relu_2", 8: "stage_4_block_2_relu_2"}),
    "pixels": (32, 1, {2: "colour_bn"}),
    "silhouette": (64, 3, {2: "block_2_relu", 4: "block_3_relu", 8: "map_dropout"}),
    "mobilenet": (96, 5, {2: "conv_pw_1_relu", 4: "conv_pw_3_relu", 8: "conv_pw_5_relu", 16: "conv_pw_11_relu",
                          32: "conv_pw_13_relu"}),
    "mobilenet_v2": (75, 5, {2: "block_1_expand_relu", 4: "block_3_expand_relu", 8: "block_6_expand_relu",
                             16: "block_13_expand_relu", 32: "out_relu"}),
    "efficientnet_lite0": (224, 5, {2: "block_1_expand_relu", 4: "block_3_expand_relu", 8: "block_5_expand_relu",
                                    16: "block_11_expand_relu", 32: "head_relu"}),
    "resnet50": (100, 5, {2: "conv1_relu", 4: "conv2_block3_out", 8: "conv3_block4_out", 16: "conv4_block6_out",
                          32: "conv5_block3_out"}),
}  # fmt: skip
DEAR = {
    "efficientnet_b0": (96, 5, {2: "block2a_expand_activation", 4: "block3a_expand_activation",
                                8: "block4a_expand_activation", 16: "block6a_expand_activation", 32: "top_activation"}),
    "efficientnet_lite1": (240, 5, {2: "", 4: "", 8: "", 16: "", 32: "head_relu"}),
    "efficientnet_lite2": (260, 5, {2: "", 4: "", 8: "", 16: "", 32: "head_relu"}),
    "densenet121": (64, 5, {2: "conv1_relu", 4: "pool2_conv", 8: "pool3_conv", 16: "pool4_conv", 32: "relu"}),
    "densenet201": (64, 5, {2: "conv1_relu", 4: "pool2_conv", 8: "pool3_conv", 16: "pool4_conv", 32: "relu"}),
    "inception_v3": (299, 5, {2: "", 4: "", 8: "mixed2", 16: "mixed7", 32: "mixed10"}),
    "inception_resnet_v2": (75, 5, {2: "", 4: "", 8: "block35_10_ac", 16: "block17_20_ac", 32: "conv_7b_ac"}),
    "xception": (71, 5, {2: "block1_conv2_act", 4: "", 8: "", 16: "", 32: "block14_sepconv2_act"}),
    "resnet152_v2": (64, 5, {2: "conv1_conv", 4: "conv2_block2_out", 8: "conv3_block7_out", 16: "conv4_block35_out",
                             32: "post_relu"}),
    "nasnet": (64, 5, {2: "", 4: "", 8: "", 16: "", 32: ""}),
    "resnet34": (64, 5, {2: "relu", 4: "layer1.2", 8: "layer2.3", 16: "layer3.5", 32: "layer4.2"}),
    "resnet50_v1": (64, 5, {2: "relu", 4: "layer1.2", 8: "layer2.3", 16: "layer3.5", 32: "layer4.2"}),
    "resnet152_v1": (64, 5, {2: "relu", 4: "layer1.2", 8: "layer2.7", 16: "layer3.35", 32: "layer4.2"}),
    "se_resnext50": (64, 5, {2: "relu", 4: "layer1.2", 8: "layer2.3", 16: "layer3.5", 32: "layer4.2"}),
    "se_resnext101": (64, 5, {2: "relu", 4: "layer1.2", 8: "layer2.3", 16: "layer3.22", 32: "layer4.2"}),
    "densenet161": (64, 5, {2: "features.norm0.relu", 4: "features.transition1.conv", 8: "features.transition2.conv",
                            16: "features.transition3.conv", 32: "features.norm5.relu"}),
    "inception_v4": (299, 5, {2: "features.2.relu", 4: "features.4", 8: "features.9", 16: "features.17",
                              32: "features.21"}),
    "pnasnet5_large": (96, 5, {2: "conv_0.bn", 4: "cell_0.conv_prev_1x1.act", 8: "cell_5.conv_prev_1x1.act",
                               16: "cell_9.conv_prev_1x1.act", 32: "act"}),
    "cbam_resnet50": (64, 5, {2: "relu", 4: "layer1.2", 8: "layer2.3", 16: "layer3.5", 32: "layer4.2"}),
    "gluon_resnet152_v2": (64, 5, {2: "features.3", 4: "features.6.0.relu1", 8: "features.7.0.relu1",
                                   16: "features.8.0.relu1", 32: "features.10"}),
}  # fmt: skip
APART = {"descriptors", "silhouette_pixels"}  # branches of unlike sizes: see below
CASES = [
    *CHEAP.items(),
    *[pytest.param(name, case, marks=pytest.mark.slow) for name, case in DEAR.items()],
]


def test_every_backbone_is_here() -> None:
    assert CHEAP.keys() | DEAR.keys() | APART == OWN.keys()


@pytest.mark.parametrize(("name", "case"), CASES)
def test_groups_and_maps_are_those_of_the_strides(name: str, case: tuple[int, int, dict[int, str]]) -> None:
    size, n_groups, maps = case
    backbone = build_backbone(name, size, "none", {})
    body = backbone.get_layer("body")
    found = pyramid(backbone)
    assert list(found) == list(maps)
    assert {stride: layer for stride, layer in found.items() if maps[stride]} == {s: n for s, n in maps.items() if n}
    sides = {stride: body.get_layer(layer).output.shape[1] for stride, layer in found.items()}
    if name != "pixels":  # which looks at the centre
        for stride, side in sides.items():
            assert size / stride - 4 <= side <= size / stride + 1, stride  # without padding 299 becomes 71, 35, 17, 8
    assert len(layer_groups(backbone)) == n_groups
    assert group_count(name, {}) == GroupCount(n_groups)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in DEAR else []) for name in OWN if name != "pixels"]
)
def test_params_know_the_groups_of_the_smallest_network_too(name: str) -> None:
    backbone = build_backbone(name, OWN[name].smallest, "none", {})
    assert group_count(name, {}) == GroupCount(len(layer_groups(backbone)))


@pytest.mark.parametrize("name", ["small_cnn", "small_resnet", "silhouette", "silhouette_pixels"])
@pytest.mark.parametrize(("filters", "size"), [([4], 33), ([4, 4], 45), ([4, 4, 4], 51), ([4] * 4, 33), ([4] * 5, 63)])
def test_params_know_the_groups_of_a_network_with_other_filters(name: str, filters: list[int], size: int) -> None:
    backbone = build_backbone(name, size, "none", {"filters": filters})
    assert group_count(name, {"filters": filters}) == GroupCount(len(layer_groups(backbone)))


@pytest.mark.parametrize(("centre", "size"), [(0.1, 45), (0.5, 16), (1.0, 33)])
def test_params_know_the_one_group_of_colours(centre: float, size: int) -> None:
    backbone = build_backbone("pixels", size, "none", {"centre": centre})
    assert len(layer_groups(backbone)) == group_count("pixels", {"centre": centre}).n


@pytest.mark.parametrize("name", [*CHEAP, *sorted(APART)])
def test_every_weight_is_in_one_group(name: str) -> None:
    backbone = build_backbone(name, 64, "none", {})
    groups = layer_groups(backbone)
    placed = [id(weight) for group in groups for layer in group for weight in layer.weights]
    assert len(placed) == len(set(placed))
    assert set(placed) == {id(weight) for weight in backbone.weights}
    assert all(groups)


def test_a_network_that_is_cut_off_has_fewer_groups() -> None:
    backbone = build_backbone("resnet50", 64, "none", {"until": "conv3_block4_out"})
    assert list(pyramid(backbone).items())[-1] == (8, "conv3_block4_out")
    assert len(layer_groups(backbone)) == 3 <= group_count("resnet50", {"until": "conv3_block4_out"}).n


def test_what_is_smaller_for_a_while_is_no_new_depth() -> None:
    """Squeeze and excitation pools to one pixel and multiplies what it finds into the map."""
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="first")(image)
    squeezed = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    squeezed = keras.layers.Conv2D(4, 1, name="squeezed")(squeezed)
    x = keras.layers.Multiply(name="excited")([x, squeezed])
    x = keras.layers.ZeroPadding2D(1)(x)
    x = keras.layers.Conv2D(8, 3, strides=2, name="second")(x)
    body = keras.Model(image, x, name="body")
    assert [[layer.name for layer in group] for group in layer_groups(body)] == [["first", "squeezed"], ["second"]]
    assert pyramid(body) == {2: "excited", 4: "second"}
    assert len(list(flat_layers(body))) == 7
