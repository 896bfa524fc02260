"""A network for segmentation as one estimator: photos and class maps in, class maps out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from labelstack.images.pixels.decode import fit
from labelstack.networks.inference import load_model, save_model
from labelstack.params import digest
from labelstack.params.augment import AugmentSection
from labelstack.params.messages import explain
from labelstack.params.segmenters import SegmenterPhase, SegmenterSection
from labelstack.segmentation.confusion import class_counts, confusion_matrix, pixel_scores
from labelstack.segmentation.photo_batches import OFF, Classes, PhotoBatches, Pixels
from labelstack.segmentation.pixel_loss import balanced_weights, pixel_loss
from labelstack.segmentation.unet_training import OnEpoch, forward_of, train_unet
from labelstack.support.errors import InputProblems, UserError
from labelstack.support.storage import read_json, replacing_dir, write_json

# get_transforms of fastai without its symmetric warp: flip, ±10°, zoom 1 … 1.1, contrast.
USUAL = AugmentSection(
    rotate=(-10, 10), scale=(1, 1.1), crop=(0, 0), contrast=(0.8, 1.25), sharpen=(0, 0), emboss=(0, 0), chance=0.75
)
_MODEL, _SETTINGS = "model.keras", "segmenter.json"


class Segmenter:
    """A U-Net that learns from photos and class maps.

    Parameters
    ----------
    section : SegmenterSection
        Network, loss and phases.
    seed : int
        With section, data and machine it fixes the weights.
    work : path, optional
        Where checkpoints and each phase's weights are kept; who fits again with the same goes on from there.

    Attributes
    ----------
    model_ : keras.Model
        uint8 [b, h, w, 3] → logits float32 [b, h, w, classes].
    history_ : DataFrame
        See ``TrainedUNet``.
    size_ : (height, width)
        To which photos are squashed for the network: that of the last phase.
    """

    model_: keras.Model
    history_: pd.DataFrame
    size_: tuple[int, int]

    def __init__(self, section: SegmenterSection, seed: int = 0, work: str | Path | None = None) -> None:
        self.section, self.seed, self.work = section, seed, work
        self._traced = lru_cache(maxsize=1)(
            forward_of
        )  # of the network in use: a stage asks for a few photos at a time

    def fit(
        self,
        images: Sequence[Pixels],
        class_maps: Sequence[Classes],
        holdout: tuple[Sequence[Pixels], Sequence[Classes]] | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> Segmenter:
        """Learn.

        Parameters
        ----------
        images : uint8 [h, w, 3] RGB each, of any size
            Sequences may read a photo when it is asked for; each is read once before training, to be checked.
        class_maps : uint8 or uint16 [h, w] each
            Classes 0 … classes − 1, and ``loss.ignored``.
        holdout : the same of other photos, optional
            Judged after each epoch at the photos' own size; decides with ``keep: best``.
        on_epoch : see ``train_unet``

        Raises
        ------
        InputProblems
            Photos and maps that do not fit, all of them.
        UserError
            What the backbone does not take; a loss that is no longer finite.
        """
        section = self.section
        if section.keep == "best" and holdout is None:
            raise UserError("keep: best goes by held-out photos: give a holdout, or set keep to last")
        pixels, digests = checked_photos(images, class_maps, section)
        if holdout is not None:
            digests += checked_photos(*holdout, section, "holdout")[1]
        chosen = section.augment
        augment = chosen if isinstance(chosen, AugmentSection) else USUAL if chosen else OFF
        weights = _class_weights(section, pixels)
        trained = train_unet(
            section,
            lambda phase: PhotoBatches(
                images,
                class_maps,
                phase.image_size,
                phase.batch_size,
                self.seed,
                augment,
                section.background_class,
            ),
            pixel_loss(section.loss, weights),
            seed=self.seed,
            work=None if self.work is None else Path(self.work),
            fingerprint=digest([section.model_dump(mode="json"), augment.model_dump(mode="json"), self.seed, digests]),
            judge=None if holdout is None else self._judge(*holdout),
            on_epoch=on_epoch,
        )
        self.model_, self.history_ = trained.model, trained.history
        self.size_ = section.phases[-1].image_size
        return self

    def predict(self, images: Iterable[Pixels], *, flip: bool = False) -> Iterator[Classes]:
        """Class maps uint8 (uint16 of more than 256 classes) [h, w], each of its photo's size, one after another.

        With ``flip`` by the mean of logits of the photo and its mirror image. Memory does not grow with the number of
        photos.
        """
        return class_maps_of(self._forward(flip), images, self.size_, self.section.phases[-1].batch_size)

    def predict_proba(self, images: Iterable[Pixels], *, flip: bool = False) -> Iterator[NDArray[np.float32]]:
        """Probabilities float32 [H, W, classes] of each photo at the network's size ``size_``; ``flip`` as above."""
        run = self._forward(flip)
        for batch in _in_batches(images, self.section.phases[-1].batch_size):
            logits = run(_squashed(batch, self.size_))
            shares = np.exp(logits - logits.max(-1, keepdims=True))
            yield from shares / shares.sum(-1, keepdims=True)

    def save(self, folder: str | Path) -> None:
        """Write ``model.keras`` and ``segmenter.json`` into a new folder, whole or not at all."""
        model = self._fitted()
        with replacing_dir(folder) as temporary:
            save_model(model, temporary / _MODEL)
            content = {"section": self.section.model_dump(mode="json"), "seed": self.seed, "size": list(self.size_)}
            write_json(temporary / _SETTINGS, content)

    @classmethod
    def load(cls, folder: str | Path) -> Segmenter:
        """What ``save`` wrote; raise ``UserError`` where it is absent, damaged or unsafe."""
        path = Path(folder) / _SETTINGS
        try:
            content = read_json(path)
            section = SegmenterSection.model_validate(content["section"])
            height, width = map(int, content["size"])
            loaded = cls(section, int(content["seed"]))
        except ValidationError as error:
            raise InputProblems(str(path), explain(error, SegmenterSection)) from None
        except (OSError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: is no settings of a segmenter ({error}); expected what save writes") from None
        loaded.model_, loaded.size_ = load_model(Path(folder) / _MODEL), (height, width)
        return loaded

    def _forward(self, flip: bool) -> Callable[[Pixels], NDArray[np.float32]]:
        run = self._traced(self._fitted())
        if not flip:
            return run
        return lambda x: np.asarray((run(x) + run(x[:, :, ::-1])[:, :, ::-1]) / 2, np.float32)

    def _fitted(self) -> keras.Model:
        if not hasattr(self, "model_"):
            raise UserError("this segmenter has learnt nothing: call fit, or load one")
        return self.model_

    def _judge(
        self, images: Sequence[Pixels], class_maps: Sequence[Classes]
    ) -> Callable[[keras.Model, SegmenterPhase], dict[str, float]]:
        section, traced = self.section, cache(forward_of)

        def judge(model: keras.Model, phase: SegmenterPhase) -> dict[str, float]:
            given = class_maps_of(traced(model), images, phase.image_size, phase.batch_size)
            matrix = sum(
                confusion_matrix(truth, map_, section.classes, section.loss.ignored)
                for truth, map_ in zip(class_maps, given, strict=True)
            )
            scores = pixel_scores(class_counts(np.asarray(matrix)), section.background_class)
            names = sorted(scores, key=lambda name: name != section.monitor)  # the one to go by first
            return {f"holdout_{name}": scores[name] for name in names}

        return judge


def class_maps_of(
    run: Callable[[Pixels], NDArray[np.float32]], images: Iterable[Pixels], size: tuple[int, int], batch_size: int
) -> Iterator[Classes]:
    """The likeliest class of each pixel by ``forward_of`` a network, found at ``size`` and enlarged by the nearest."""
    for batch in _in_batches(images, batch_size):
        for image, logits in zip(batch, run(_squashed(batch, size)), strict=True):
            small = logits.argmax(-1).astype(np.uint8 if logits.shape[-1] <= 256 else np.uint16)
            height, width = image.shape[:2]
            yield np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))


def checked_photos(
    images: Sequence[Pixels], class_maps: Sequence[Classes], section: SegmenterSection, name: str = "fit"
) -> tuple[NDArray[np.int64], list[str]]:
    """Pixels of each class, int64 [classes], and a digest of each photo with its map; raise ``InputProblems``."""
    if len(images) != len(class_maps):
        raise InputProblems(name, [f"{len(images)} photos and {len(class_maps)} class maps: give one map for each"])
    if not len(images):
        raise InputProblems(name, ["there are no photos"])
    pixels, problems, digests = np.zeros(section.classes, np.int64), [], []
    for number, (image, map_) in enumerate(zip(images, class_maps, strict=True)):
        wrong = list(_photo_problems(image, map_))
        if not wrong:
            counts = np.bincount(map_.ravel(), minlength=section.classes)
            allowed = {*range(section.classes), section.loss.ignored}
            unknown = [int(value) for value in np.flatnonzero(counts) if value not in allowed]
            if unknown:
                wrong = [f"classes are 0 … {section.classes - 1}, and the map has {', '.join(map(str, unknown[:5]))}"]
            pixels += counts[: section.classes]
        problems += [f"photo {number}: {one}" for one in wrong]
        digests.append(hashlib.sha256(image.tobytes() + map_.tobytes()).hexdigest())
    if problems:
        raise InputProblems(name, problems)
    if not pixels.any():
        raise InputProblems(name, ["no pixel of any photo has a class: all are ignored"])
    return pixels, digests


def _photo_problems(image: NDArray[Any], map_: NDArray[Any]) -> Iterator[str]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        yield f"must be uint8 [h, w, 3], not {image.dtype} {list(image.shape)}"
    if map_.dtype not in (np.uint8, np.uint16):
        yield f"its class map must be uint8 or uint16, not {map_.dtype}"
    if map_.shape != image.shape[:2]:
        yield f"its class map must have its sides {list(image.shape[:2])}, not {list(map_.shape)}"


def _class_weights(section: SegmenterSection, pixels: NDArray[np.int64]) -> NDArray[np.float32] | None:
    chosen = section.loss.class_weights
    if isinstance(chosen, tuple):
        return np.asarray(chosen, np.float32)
    return balanced_weights(pixels) if chosen == "balanced" else None


def _in_batches(images: Iterable[Pixels], size: int) -> Iterator[list[Pixels]]:
    iterator = iter(images)
    while batch := list(islice(iterator, size)):
        yield batch


def _squashed(images: Sequence[Pixels], size: tuple[int, int]) -> Pixels:
    return np.stack([fit(image, size[1], size[0]) for image in images])
