"""U-Net whose encoder is a backbone and whose decoder grows by pixel shuffle, as fastai's ``DynamicUnet``.

fastai 1.0.52 (fastai/vision/models/unet.py, layers.py), with which iMaterialist 2019 was tried, slipped twice: a class
in the place of one of its members took batch normalization out of the decoder, and the test ``if self.blur`` of a
module is always true. ``faithful`` builds that network, layer by layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from labelstack.params.segmenters import DecoderSection, SegmenterSection
from labelstack.segmentation.decoder_layers import Blur, CropLike, PadToMultiple, PixelShuffle, SelfAttention
from labelstack.segmentation.icnr import FACTOR, ICNR, he_normal
from labelstack.segmentation.pyramid_encoder import PyramidEncoder, pyramid_encoder
from labelstack.support.errors import UserError

FAITHFUL = DecoderSection(batch_norm=False, blur=True)
_NORM_BIAS = 1e-3  # fastai's batchnorm_2d


@dataclass(frozen=True)
class UNet:
    """A network and the names of its encoder's first layers, which are layer group 1.

    Attributes
    ----------
    model : keras.Model
        uint8 [b, h, w, 3] RGB, of any size → float32 logits [b, h, w, classes].
    early : see ``PyramidEncoder``
    """

    model: keras.Model
    early: frozenset[str]


def build_unet(section: SegmenterSection) -> UNet:
    """Encoder, decoder and a last convolution to classes.

    Images whose sides are not divisible by the deepest stride (32 of ResNet-34) are padded by their borders, and the
    answer is cut to their size. Layer groups are fastai's: of ResNet-34 up to layer2, layer3 and layer4, and the rest.

    Raises
    ------
    UserError
        Options, weights or a number of filters that the backbone does not take.
    """
    decoder = FAITHFUL if section.faithful else section.decoder
    encoder = pyramid_encoder(section.backbone, section.weights, section.options)
    image = keras.Input((None, None, 3), dtype="uint8", name="image")
    seen = encoder.preprocessing(PadToMultiple(encoder.stride, name="padded")(image))
    x = _decoded(seen, encoder, decoder)
    x = layers.Conv2D(section.classes, 1, kernel_initializer=he_normal(), dtype="float32", name="classes")(x)
    logits = CropLike(name="logits")([x, image])
    return UNet(keras.Model(image, logits, name="unet"), encoder.early)


def _decoded(seen: Any, encoder: PyramidEncoder, params: DecoderSection) -> Any:
    """Preprocessed image [b, H, W, 3] → decoded map of its size."""
    *skips, x = encoder.network(seen)
    filters = _filters(params.filters, x.shape[-1], [skip.shape[-1] for skip in skips])
    norm = params.batch_norm
    x = layers.ReLU(name="bottom_relu")(_norm(x, "bottom_norm"))
    if params.middle:
        channels = x.shape[-1]
        x = _convolved(x, 2 * channels, "middle_1", norm=norm)
        x = _convolved(x, channels, "middle_2", norm=norm)
    for number, (skip, width) in enumerate(zip(reversed(skips), filters, strict=True), start=1):
        block = f"block_{number}"
        up = width // 2 if params.filters else x.shape[-1] // 2
        x = _grown(x, max(up, 1), f"{block}_up", params)
        x = layers.Concatenate(name=f"{block}_concat")([x, _norm(skip, f"{block}_skip_norm")])
        x = layers.ReLU(name=f"{block}_relu")(x)
        x = _convolved(x, width, f"{block}_conv_1", norm=norm)
        x = _convolved(x, width, f"{block}_conv_2", norm=norm)
        # fastai: the last but two of the blocks, so of four the second
        if params.self_attention and number == max(len(skips) - 2, 1):
            x = SelfAttention(name=f"{block}_attention")(x)
    x = _grown(x, x.shape[-1], "last_up", params)
    if not params.last_cross:
        return x
    x = layers.Concatenate(name="last_concat")([x, seen])
    inner = _convolved(x, x.shape[-1], "last_conv_1", norm=norm)
    inner = _convolved(inner, x.shape[-1], "last_conv_2", norm=norm, gamma="zeros")
    return layers.Add(name="last_add")([x, inner])


def _filters(given: Sequence[int], bottom: int, skips: Sequence[int]) -> list[int]:
    """Channels of each block, the deepest first: as given, or as fastai has them."""
    if given:
        if len(given) != len(skips):
            raise UserError(
                f"decoder.filters: {len(given)} numbers for the {len(skips)} blocks of this encoder: name one for "
                "each, the deepest first"
            )
        return list(given)
    found, before = [], bottom
    for skip in reversed(skips):
        before = before // 2 + skip
        found.append(before)
    found[-1] //= 2
    return found


def _grown(x: Any, filters: int, name: str, params: DecoderSection) -> Any:
    """Twice the size: 1 × 1 convolution, ReLU, pixel shuffle and, where it is asked for, blur."""
    x = _convolved(x, FACTOR**2 * filters, f"{name}_conv", norm=params.batch_norm, kernel=1)
    x = PixelShuffle(name=f"{name}_shuffle")(x)
    return Blur(name=f"{name}_blur")(x) if params.blur else x


def _convolved(x: Any, filters: int, name: str, *, norm: bool, kernel: int = 3, gamma: str = "ones") -> Any:
    """Convolution, ReLU and, where there is one, normalization behind it, as fastai has them."""
    initializer = ICNR() if kernel == 1 else he_normal()
    x = layers.Conv2D(filters, kernel, padding="same", use_bias=not norm, kernel_initializer=initializer, name=name)(x)
    x = layers.ReLU(name=f"{name}_relu")(x)
    return _norm(x, f"{name}_norm", gamma) if norm else x


def _norm(x: Any, name: str, gamma: str = "ones") -> Any:
    beta = keras.initializers.Constant(_NORM_BIAS)
    return layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, beta_initializer=beta, gamma_initializer=gamma, name=name
    )(x)
