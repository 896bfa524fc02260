"""The ensemble as one thing: images in, labels out; of photos with regions these, each with its labels."""

from __future__ import annotations

import io
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from labelstack.ensemble.folder import Spec, View, network_file, read_spec
from labelstack.ensemble.found_in_photos import (
    Finder,
    LabelledPhoto,
    answers,
    crops_with_attributes,
    load_finder,
)
from labelstack.ensemble.image_sources import ImageSources
from labelstack.ensemble.load_check import check_loaded
from labelstack.ensemble.region_form import AT_ONCE, RegionForm
from labelstack.params.prediction_views import OneView
from labelstack.predictions import Predictions, assemble_cube
from labelstack.support.box import Box
from labelstack.support.errors import UserError
from labelstack.support.logits import as_kept
from labelstack.support.progress import bar
from labelstack.support.quiet import load_tensorflow

if TYPE_CHECKING:
    import pandas as pd

    from labelstack.images.pixels.budget import Budget

COLUMNS = ("label_id", "labels", "probability", "error")
REGION_COLUMNS = ("regions", "error")
_AHEAD = 2  # batches that are fetched and decoded while one is predicted
Images = NDArray[np.uint8]
T = TypeVar("T")
Floats = NDArray[np.float32]
Decoded = tuple[bytes, list[Images]]  # as stored, and by view


@dataclass(frozen=True)
class Rooms:
    """The functions that an ensemble calls, so that its own logic needs none of them imported.

    Attributes
    ----------
    decode : stored image's bytes, view → uint8 [size, size, 3], or [views, size, size, 3] where parts are seen, see
        ``tta.Looks``; raises on what is no image
    models : by name, images uint8 [n, …] by view → float32 [n, n_labels], the means over test-time views and over the
        base model's networks included
    stackers : by name, cube float32 [n, n_models, n_labels] → float32 [n, n_labels]
    blend : predictions by member, weights by member → float32 [n, n_labels]
    decide : float32 [n, n_labels] → bool [n, n_labels]
    store : any image file's bytes → bytes as the shards store them; raises on what is no image
    boxes : by second-round model that sees of a new image what another model looks at: images by view, width and height
        of each stored image → boxes, None for the whole
    shown : blended probabilities float32 [n, n_labels] → as they are told; where every image has one label, or one
        of each label group, calibrated, and of each group as shares of it
    regions : stored photos → the regions of each; None: the ensemble labels whole images
    """

    decode: Callable[[bytes, View], Images]
    models: Mapping[str, Callable[[Mapping[View, Images]], Floats]]
    stackers: Mapping[str, Callable[[Floats], Floats]]
    blend: Callable[[Mapping[str, Floats], Mapping[str, float]], Floats]
    decide: Callable[[Floats], NDArray[np.bool_]]
    store: Callable[[bytes], bytes] = bytes
    shown: Callable[[Floats], Floats] = np.asarray
    boxes: Mapping[str, Callable[[Mapping[View, Images], Sequence[tuple[int, int]]], list[Box | None]]] = field(
        default_factory=dict
    )
    regions: Finder | None = None


class Ensemble:
    """Base models, stackers, blend and thresholds, from image to labels; safe to share between threads.

    Parameters
    ----------
    spec : Spec
    rooms : Rooms
    sources : ImageSources, optional
        Where images are read from; default: as the spec's settings and this process's environment say.
    """

    def __init__(self, spec: Spec, rooms: Rooms, sources: ImageSources | None = None) -> None:
        self.spec = spec
        self.rooms = rooms
        self.sources = sources or ImageSources.from_settings(spec.settings.fetch)
        of_models = [spec.views[name] for name in spec.needed_models if name not in spec.heatmaps]
        of_maps = [map_views(spec, name) for name in self._cut]
        self._views = list(dict.fromkeys(view for views in (*of_models, *of_maps) for view in views.values()))
        every = [view for name in spec.needed_models for view in spec.views[name].values()]
        self._at_once = _at_once(spec, [*self._views, *every])
        self._turn = threading.Lock()  # a batch at a time: the models use all cores, and memory stays bounded

    @property
    def _cut(self) -> list[str]:
        """Models that see a part of each image, which others find."""
        return [name for name in self.spec.needed_models if name in self.spec.heatmaps]

    @classmethod
    def load(cls, folder: str | Path, *, checked: bool = False, served: bool = False) -> Ensemble:
        """Load the models that the blend needs from a folder that ``assemble_folder`` made.

        Where the folder lies in an MLflow model, the model's files are compared with what was registered before
        anything of them is read, see ``check_loaded``; not when ``checked`` says that this was done. ``served`` says
        that strangers send the images: local files are read only where the environment opens them.
        """
        folder = Path(folder)
        if not checked:
            check_loaded(folder)
        spec = read_spec(folder)
        from labelstack.images.pixels.budget import Budget

        sources = ImageSources.from_settings(spec.settings.fetch, served=served)
        return cls(spec, _real_rooms(folder, spec, Budget.of(sources.images)), sources)

    def predict(
        self,
        images: Iterable[Any],
        *,
        all_probabilities: bool = False,
        attributes: Sequence[str] = (),
        patience_s: float | None = None,
        progress: bool = True,
    ) -> pd.DataFrame:
        """Labels of images.

        Parameters
        ----------
        images : iterable of str, path or bytes
            A path, an http, https or s3 URL, base64 of an image file (a ``data:`` URL too), or the file's bytes.
        all_probabilities : bool
            Add the column ``probabilities``: of every label, in the order of ``spec.label_id``.
        attributes : sequence of str
            Label groups of which a value is told, where an image has one of each; default: all. ``_labels`` at the end
            of a name may be left out.
        patience_s : float, optional
            Seconds after which no URL is waited for any longer, and no image is decoded.
        progress : bool
            Show a bar where standard error is a terminal.

        Returns
        -------
        DataFrame
            A row for each image: ``label_id`` (list of int), ``labels`` (names), ``probability`` (of those labels),
            ``error`` (None, or why this image has no labels).

        Raises
        ------
        UserError
            When there is no label group of a name in ``attributes``.
        """
        import pandas as pd

        told = self._told(attributes)

        todo, rows = list(images), []
        deadline = None if patience_s is None else time.monotonic() + patience_s
        with bar(total=len(todo), desc="predict", unit="image") if progress else nullcontext() as shown:
            for batch in self._batches(todo, deadline):
                rows += self._rows(batch, told)
                if shown is not None:
                    shown.update(len(batch))
        columns = [*COLUMNS, *["probabilities"] * all_probabilities]
        return pd.DataFrame({column: pd.Series([row[column] for row in rows], dtype=object) for column in columns})

    def regions(
        self,
        images: Iterable[Any],
        *,
        all_probabilities: bool = False,
        patience_s: float | None = None,
        progress: bool = True,
    ) -> pd.DataFrame:
        """Regions of photos, each with its attributes.

        Parameters
        ----------
        images, all_probabilities, patience_s, progress : as of ``predict``

        Returns
        -------
        DataFrame
            A row for each photo: ``regions`` and ``error`` (None, or why nothing was found out). Regions are a list by
            falling score of mappings: ``category_id``, ``category`` (its name), ``score`` (the mean probability of the
            category over the region's pixels), ``attribute_id``, ``attributes`` (names) and ``probability`` of these,
            ``size`` (height and width to which the photo was squashed), ``box`` (left, top, right, bottom in pixels of
            that, the last two beyond it), ``runs`` (text: start from 1 and length in turn, down the columns of
            ``size``); with ``all_probabilities`` also ``probabilities``, of every attribute in the order of
            ``spec.label_id``, empty where the category has none. Attributes are given where the version's rule writes
            them into a submission.

        Raises
        ------
        UserError
            When the version has no segmenters.
        """
        import pandas as pd

        found = self.photos(images, all_probabilities=all_probabilities, patience_s=patience_s, progress=progress)
        rows = [(photo.regions, photo.error) for photo in found]
        columns = dict(zip(REGION_COLUMNS, zip(*rows, strict=True), strict=True)) if rows else {}
        return pd.DataFrame({name: pd.Series(list(columns.get(name, ())), dtype=object) for name in REGION_COLUMNS})

    def photos(
        self,
        images: Iterable[Any],
        *,
        all_probabilities: bool = False,
        patience_s: float | None = None,
        progress: bool = True,
    ) -> Iterator[LabelledPhoto]:
        """As ``regions``, photo by photo, each with its pixels and masks: a few are in memory at a time."""
        form, find = self.spec.regions, self.rooms.regions
        if form is None or find is None:
            raise UserError("this version has no segmenters: it labels whole images and finds no regions in them")
        todo = list(images)
        deadline = None if patience_s is None else time.monotonic() + patience_s
        return self._photos(todo, form, find, deadline, all_probabilities=all_probabilities, progress=progress)

    def _photos(
        self,
        todo: Sequence[Any],
        form: RegionForm,
        find: Finder,
        deadline: float | None,
        *,
        all_probabilities: bool,
        progress: bool,
    ) -> Iterator[LabelledPhoto]:
        labels = list(zip(self.spec.label_id, self.spec.labels, strict=True))
        with bar(total=len(todo), desc="regions", unit="photo") if progress else nullcontext() as shown:
            for batch in self._begun(todo, AT_ONCE, self.rooms.store, deadline):
                stored, errors = _finished(batch)
                with self._turn:
                    masks = iter(list(find(stored)) if stored else [])
                jpegs = iter(stored)
                for error in errors:
                    if error is None:
                        jpeg, found = next(jpegs), next(masks)
                        asked, cut = crops_with_attributes(form, jpeg, found)
                        P = self._blended(cut)
                        decided = self.rooms.decide(P) if len(P) else np.zeros(P.shape, np.bool_)
                        said = answers(form, labels, found, asked, P, decided, all_probabilities=all_probabilities)
                        yield LabelledPhoto(said, None, jpeg, found)
                    else:
                        yield LabelledPhoto(error=error)
                    if shown is not None:
                        shown.update(1)

    def _blended(self, jpegs: Sequence[bytes]) -> Floats:
        """Blended probabilities float32 [n, n_labels] of stored images."""
        parts = [np.zeros((0, len(self.spec.labels)), np.float32)]
        for batch in self._batches(jpegs, None):
            parts.append(self._of_decoded([image.result() for image in batch]))
        return np.concatenate(parts)

    def probabilities(
        self, pixels: Mapping[View, Images], own: Mapping[str, Mapping[View, Images]] | None = None
    ) -> Floats:
        """Blended probabilities float32 [n, n_labels] of decoded images uint8 [n, …] by view.

        ``own`` is what models are shown in their place, by name.
        """
        spec, shown, dtype = self.spec, own or {}, self.spec.settings.dtype
        ids = np.arange(len(next(iter([*pixels.values()]))))
        base = {name: Predictions(ids, self.rooms.models[name](shown.get(name, pixels))) for name in spec.needed_models}
        members = {name: prediction.probability for name, prediction in base.items()}
        if spec.needed_stackers:
            cube = assemble_cube({name: base[name] for name in spec.cube}, ids)
            members |= {name: as_kept(self.rooms.stackers[name](cube), dtype) for name in spec.needed_stackers}
        return as_kept(self.rooms.blend({name: members[name] for name in spec.blended}, spec.blended), dtype)

    def _batches(self, todo: Sequence[Any], deadline: float | None) -> Iterator[list[Future[Decoded]]]:
        return self._begun(todo, self._at_once, self._decoded, deadline)

    def _begun(
        self, todo: Sequence[Any], size: int, work: Callable[[bytes], T], deadline: float | None
    ) -> Iterator[list[Future[T]]]:
        """Batches of so many, the next of which are begun while one is used."""
        begun = deque[list[Future[T]]]()
        for start in range(0, len(todo), size):
            begun.append(self.sources.each(todo[start : start + size], work, deadline))
            if len(begun) > _AHEAD:
                yield begun.popleft()
        yield from begun

    def _decoded(self, data: bytes) -> Decoded:
        stored = self.rooms.store(data)
        return stored, [self.rooms.decode(stored, view) for view in self._views]

    def _told(self, attributes: Sequence[str]) -> NDArray[np.bool_]:
        """The labels bool [n_labels] that may be told of."""
        group = np.array(self.spec.decision.get("group", [""] * len(self.spec.labels)), np.str_)
        if not attributes:
            return np.ones(len(group), np.bool_)
        there = [name for name in dict.fromkeys(group.tolist()) if name]
        short = {name.removesuffix("_labels"): name for name in there} | {name: name for name in there}
        if unknown := [name for name in attributes if name not in short]:
            known = ", ".join(there) if there else "none: its labels are not one value of each attribute"
            raise UserError(f"attributes: this version has no {', '.join(unknown)} (there are: {known})")
        return np.isin(group, [short[name] for name in attributes])

    def _parts(self, pixels: Mapping[View, Images], stored: Sequence[bytes]) -> dict[str, dict[View, Images]]:
        """What models see that are shown a part of each image, by name."""
        if not self._cut:
            return {}
        sides, found = [_sides(jpeg) for jpeg in stored], {}
        for name in self._cut:
            boxes = self.rooms.boxes[name](pixels, sides)
            found[name] = {
                view: np.stack(
                    [self.rooms.decode(jpeg, replace(view, box=box)) for jpeg, box in zip(stored, boxes, strict=True)]
                )
                for view in self.spec.views[name].values()
            }
        return found

    def _rows(self, batch: Sequence[Future[Decoded]], told: NDArray[np.bool_]) -> list[dict[str, Any]]:
        decoded, errors = _finished(batch)
        if not decoded:
            return [_row(error) for error in errors]
        P = self._of_decoded(decoded)
        found = iter(zip(self.rooms.shown(P), self.rooms.decide(P) & told, strict=True))
        return [_row(error) if error else self._labelled(*next(found)) for error in errors]

    def _of_decoded(self, decoded: Sequence[Decoded]) -> Floats:
        """Blended probabilities float32 [n, n_labels], a batch at a time."""
        stored, images = zip(*decoded, strict=True)
        pixels = {view: np.stack(seen) for view, seen in zip(self._views, zip(*images, strict=True), strict=True)}
        with self._turn:
            return self.probabilities(pixels, self._parts(pixels, stored))

    def _labelled(self, probability: Floats, chosen: NDArray[np.bool_]) -> dict[str, Any]:
        columns = np.flatnonzero(chosen)
        return {
            "label_id": [self.spec.label_id[i] for i in columns],
            "labels": [self.spec.labels[i] for i in columns],
            "probability": [float(probability[i]) for i in columns],
            "error": None,
            "probabilities": [float(p) for p in probability],
        }


def _finished(batch: Sequence[Future[T]]) -> tuple[list[T], list[str | None]]:
    """What came of those that are images, and of each what is wrong with it: whatever one does, others get labels."""
    done: list[T] = []
    errors: list[str | None] = []
    for image in batch:
        try:
            done.append(image.result())
            errors.append(None)
        except UserError as error:
            errors.append(str(error))
    return done, errors


def _row(error: str | None) -> dict[str, Any]:
    return {"label_id": [], "labels": [], "probability": [], "error": error, "probabilities": None}


def map_views(spec: Spec, name: str) -> dict[str, View]:
    """How the networks see an image that find a model's part of it, by fold: whole."""
    views = spec.views[spec.heatmaps[name].of]
    return {fold: View(view.image_size, tta=(OneView(),), region=view.region) for fold, view in views.items()}


def _sides(jpeg: bytes) -> tuple[int, int]:
    """Width and height; reads the header only."""
    from PIL import Image

    with Image.open(io.BytesIO(jpeg)) as image:
        return image.width, image.height


def _at_once(spec: Spec, views: Iterable[View]) -> int:
    """How many images are decoded together: as many as make a batch with all their parts, so memory stays bounded."""
    shown = [spec.tta(view) for view in views]
    parts = max((len(tta) for tta in shown if not all(one.whole for one in tta)), default=1)
    return max(1, spec.settings.batch_size // parts)


def _real_rooms(folder: Path, spec: Spec, allowed: Budget) -> Rooms:
    load_tensorflow()
    from labelstack.ensemble.recompute import looks_of, mean, mix_of
    from labelstack.images.pixels.decode import to_stored_jpeg
    from labelstack.images.pixels.tta import id_of
    from labelstack.networks.heatmaps import heat_box, heatmaps_of, of_shape
    from labelstack.networks.inference import compile_predict, finish_of, load_model, over_views
    from labelstack.stacking.deciding.decisions import Decision
    from labelstack.stacking.stackers.construction import load_fold_ensemble

    settings, mix = spec.settings, mix_of(spec)
    try:
        decision = Decision.from_dict(spec.decision)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{folder / 'thresholds.json'}: its decision is none ({type(error).__name__}: {error})"
        ) from None

    def network(name: str, fold: str, view: View) -> Callable[[Images], Floats]:
        model, transforms = load_model(folder / network_file(name, fold)), looks_of(spec, view).transforms
        forward, finish = compile_predict(model, settings.combine), finish_of(model, settings.combine)
        return lambda x: over_views(forward, x, transforms, finish=finish, most=settings.batch_size)

    def base_model(name: str) -> Callable[[Mapping[View, Images]], Floats]:
        networks = [(view, network(name, fold, view)) for fold, view in spec.views[name].items()]
        return lambda pixels: mean(spec, [forward(pixels[view]) for view, forward in networks])

    def boxes(name: str) -> Callable[[Mapping[View, Images], Sequence[tuple[int, int]]], list[Box | None]]:
        heat, views = spec.heatmaps[name], map_views(spec, name)
        finders = {fold: heatmaps_of(load_model(folder / network_file(heat.of, fold))) for fold in views}
        size = next(iter(views.values())).image_size

        def find(pixels: Mapping[View, Images], sides: Sequence[tuple[int, int]]) -> list[Box | None]:
            maps = [finders[fold](pixels[view]) for fold, view in views.items()]
            total = np.sum([of_shape(one, maps[0].shape[1:]) for one in maps], axis=0)
            found = [heat_box(one, size, *of, heat.threshold) for one, of in zip(total, sides, strict=True)]
            return [None if box is None else box.widened(heat.margin) for box in found]

        return find

    return Rooms(
        store=lambda data: to_stored_jpeg(data, settings.store_size, settings.jpeg_quality, settings.damaged, allowed)[
            0
        ],
        decode=lambda stored, view: looks_of(spec, view)(stored, id_of(stored), view.box),
        models={name: base_model(name) for name in spec.needed_models},
        stackers={name: load_fold_ensemble(folder / "stackers" / name).predict_proba for name in spec.needed_stackers},
        blend=lambda members, _: mix(members),
        decide=decision.decide,
        shown=decision.told if settings.exclusive else np.asarray,
        boxes={name: boxes(name) for name in spec.needed_models if name in spec.heatmaps},
        regions=None if spec.regions is None else load_finder(folder, spec.regions),
    )
