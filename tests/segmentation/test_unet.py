"""The U-Net: fastai's layer by layer, sizes of any kind, its parts against plain loops, saved and loaded."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import labelstack.networks  # noqa: F401 - quiets TensorFlow before it is imported
from labelstack.networks.inference import load_model, save_model
from labelstack.params.segmenters import DecoderSection, SegmenterSection
from labelstack.segmentation.decoder_layers import Blur, CropLike, PadToMultiple, PixelShuffle, SelfAttention
from labelstack.segmentation.icnr import ICNR
from labelstack.segmentation.unet import build_unet
from labelstack.support.errors import UserError
from segmentation.squares import small

# name → channels and size / 32 of a 256² image: the table of fastai's unet_learner with ResNet-34
FASTAI = {
    "bottom_relu": (512, 8),
    "middle_1_relu": (1024, 8),
    "middle_2_relu": (512, 8),
    "block_1_up_blur": (256, 16),
    "block_1_concat": (512, 16),
    "block_1_conv_2_relu": (512, 16),
    "block_2_up_blur": (256, 32),
    "block_2_concat": (384, 32),
    "block_2_conv_2_relu": (384, 32),
    "block_3_up_blur": (192, 64),
    "block_3_concat": (256, 64),
    "block_3_conv_2_relu": (256, 64),
    "block_4_up_blur": (128, 128),
    "block_4_concat": (192, 128),
    "block_4_conv_1_relu": (96, 128),
    "block_4_conv_2_relu": (96, 128),
    "last_up_blur": (96, 256),
    "last_concat": (99, 256),
    "last_conv_2_relu": (99, 256),
    "last_add": (99, 256),
    "logits": (47, 256),
}


@pytest.fixture(scope="module")
def faithful():
    keras.utils.set_random_seed(3)
    return build_unet(SegmenterSection(faithful=True))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def trainable(model: keras.Model) -> int:
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def test_the_faithful_network_has_the_parameters_of_fastais(faithful) -> None:
    assert trainable(faithful.model) == 41_225_668


def test_every_step_of_the_faithful_network_has_fastais_channels_and_size(faithful) -> None:
    model = faithful.model
    outputs = {name: model.get_layer(name).output for name in FASTAI}
    shapes = keras.Model(model.input, outputs).compute_output_shape((1, 256, 256, 3))
    assert {name: (shape[3], shape[1]) for name, shape in shapes.items()} == FASTAI
    encoder = model.get_layer("encoder").compute_output_shape((1, 256, 256, 3))
    assert [tuple(shape[1:]) for shape in encoder] == [
        (128, 128, 64),
        (64, 64, 64),
        (32, 32, 128),
        (16, 16, 256),
        (8, 8, 512),
    ]


def test_the_faithful_decoder_has_biases_blurs_always_and_normalizes_skips_and_bottom_alone(faithful) -> None:
    own = faithful.model.layers
    norms = {layer.name for layer in own if isinstance(layer, keras.layers.BatchNormalization)}
    assert norms == {"bottom_norm", *(f"block_{n}_skip_norm" for n in (1, 2, 3, 4))}
    assert sum(isinstance(layer, Blur) for layer in own) == sum(isinstance(layer, PixelShuffle) for layer in own) == 5
    assert all(layer.use_bias for layer in own if isinstance(layer, keras.layers.Conv2D))
    assert {float(b) for n in norms for b in np.asarray(faithful.model.get_layer(n).beta)} == {float(np.float32(1e-3))}


def test_the_sound_decoder_normalizes_without_biases_and_blurs_when_asked() -> None:
    sound, blurred = (build_unet(small(decoder=DecoderSection(blur=blur))).model for blur in (False, True))
    convolutions = [layer for layer in sound.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.name for layer in convolutions if layer.use_bias] == ["classes"]
    assert not any(isinstance(layer, Blur) for layer in sound.layers)
    assert any(isinstance(layer, Blur) for layer in blurred.layers)
    assert sound.count_params() == blurred.count_params()


@pytest.mark.parametrize("size", [(64, 96), (50, 71), (1, 33)])
def test_an_image_of_any_size_gets_an_answer_for_each_pixel(faithful, size) -> None:
    assert faithful.model(noise(1, *size, 3)).shape == (1, *size, 47)


def test_an_image_that_does_not_fit_is_answered_as_the_one_padded_by_hand(faithful) -> None:
    image = noise(1, 50, 71, 3)
    padded = np.pad(image, ((0, 0), (0, 14), (0, 25), (0, 0)), mode="edge")
    whole = np.asarray(faithful.model(padded))
    assert np.allclose(np.asarray(faithful.model(image)), whole[:, :50, :71], atol=1e-5 * whole.std())


def test_a_saved_network_answers_the_same_in_safe_mode(tmp_path: Path) -> None:
    decoder = DecoderSection(blur=True, self_attention=True, filters=(16, 8))
    model = build_unet(small(decoder=decoder)).model
    save_model(model, tmp_path / "a.keras")
    save_model(model, tmp_path / "b.keras")
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
    image = noise(2, 24, 40, 3)
    assert np.array_equal(np.asarray(load_model(tmp_path / "a.keras")(image)), np.asarray(model(image)))


@pytest.mark.parametrize(
    ("backbone", "options", "strides"),
    [
        ("efficientnet_lite0", {"until": "block_15_project_bn"}, 5),
        ("resnet34", {"until": "layer3.5"}, 4),
        ("small_resnet", {"filters": [8, 8, 16]}, 2),
        ("mobilenet_v2", {"alpha": 0.35}, 5),
    ],
)
def test_a_backbone_with_a_pyramid_is_an_encoder(backbone, options, strides) -> None:
    unet = build_unet(SegmenterSection(backbone=backbone, options=options, classes=5, decoder={"middle": False}))
    assert len(unet.model.get_layer("encoder").outputs) == strides
    assert unet.model(noise(1, 40, 40, 3)).shape == (1, 40, 40, 5)


def test_the_first_layer_group_of_resnet34_ends_with_layer2(faithful) -> None:
    parts = {name.split(".")[0] for name in faithful.early}
    assert parts == {"conv1", "bn1", "layer1", "layer2"}


def test_what_cannot_be_an_encoder_is_named() -> None:
    with pytest.raises(UserError, match=r"backbone xception: is no encoder: .* 128 / 2: 61, .* resnet34"):
        build_unet(SegmenterSection(backbone="xception"))
    with pytest.raises(UserError, match=r"decoder\.filters: 3 numbers for the 2 blocks"):
        build_unet(small(decoder=DecoderSection(filters=(8, 8, 8))))


def test_icnr_draws_four_equal_sub_pixels_of_the_spread_of_he() -> None:
    kernel = np.asarray(ICNR(seed=1)((1, 1, 512, 4 * 256)))
    parts = kernel.reshape(512, 4, 256)
    assert (parts == parts[:, :1]).all()
    assert parts[:, 0].std() == pytest.approx(np.sqrt(2 / 512), rel=0.01)
    with pytest.raises(ValueError, match="6 channels"):
        ICNR()((1, 1, 8, 6))


def test_a_shuffle_begins_without_a_checkerboard() -> None:
    convolution = keras.layers.Conv2D(12, 1, kernel_initializer=ICNR(seed=2))
    grown = np.asarray(PixelShuffle()(convolution(np.random.default_rng(0).random((2, 3, 5, 7)).astype(np.float32))))
    assert grown.shape == (2, 6, 10, 3)
    blocks = grown.reshape(2, 3, 2, 5, 2, 3)
    assert (blocks == blocks[:, :, :1, :, :1]).all()


def test_a_shuffle_puts_sub_pixels_row_by_row() -> None:
    x = np.arange(8, dtype=np.float32).reshape(1, 1, 1, 8)  # sub-pixel s of filter c is 2s + c
    assert np.asarray(PixelShuffle()(x))[0, :, :, 1].tolist() == [[1, 3], [5, 7]]


def test_blur_is_the_mean_of_each_pixel_and_those_above_and_left() -> None:
    x = np.random.default_rng(1).random((2, 4, 5, 3)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0)), mode="edge")
    expected = (padded[:, :-1, :-1] + padded[:, :-1, 1:] + padded[:, 1:, :-1] + padded[:, 1:, 1:]) / 4
    assert np.allclose(np.asarray(Blur()(x)), expected, atol=1e-6)


def test_padding_repeats_borders_and_cropping_undoes_it() -> None:
    x = noise(2, 5, 8, 3)
    padded = PadToMultiple(8)(x)
    assert np.array_equal(np.asarray(padded), np.pad(x, ((0, 0), (0, 3), (0, 0), (0, 0)), mode="edge"))
    assert np.array_equal(np.asarray(CropLike()([padded, x])), x)


def test_self_attention_begins_as_the_identity_and_is_the_papers() -> None:
    x = np.random.default_rng(2).normal(size=(2, 3, 4, 16)).astype(np.float32)
    layer = SelfAttention()
    assert np.array_equal(np.asarray(layer(x)), x)
    layer.gamma.assign(0.5)
    query, key, value = (np.asarray(w) for w in (layer.query, layer.key, layer.value))
    expected = np.empty_like(x)
    for image, out in zip(x.reshape(2, 12, 16), expected.reshape(2, 12, 16), strict=True):
        for place in range(12):
            looks = np.exp(image @ key @ (image[place] @ query))
            out[place] = image[place] + 0.5 * (looks / looks.sum()) @ (image @ value)
    assert np.allclose(np.asarray(layer(x)), expected, atol=1e-5)
