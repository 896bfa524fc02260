"""From a backbone's name in params.yaml to its network."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import keras

from labelstack.networks.backbones.architecture import Architecture, OptionDefault
from labelstack.networks.backbones.mask_channel import with_mask_channel
from labelstack.networks.backbones.weights import is_published_file, load_backbone_weights
from labelstack.networks.depth import flat_layers
from labelstack.params.backbone_names import backbone_of
from labelstack.support.errors import InputProblems, UserError


def architecture_of(name: str) -> Architecture:
    """The architecture of a backbone by its name in params.yaml; its file is imported when it is asked for.

    Raises
    ------
    UserError
        When a plug-in's module cannot be imported or has none under this name.
    """
    module = backbone_of(name).module
    try:
        found: Architecture = import_module(module).ARCHITECTURES[name]
    except Exception as error:  # whatever the code of a stranger raises
        raise UserError(f"backbone {name}: {module} gives no ARCHITECTURES[{name!r}] ({error!r})") from error
    return found


def build_backbone(
    name: str, image_size: int, weights: str, options: Mapping[str, Any], channels: int = 3
) -> keras.Model:
    """A backbone with its own preprocessing inside.

    Parameters
    ----------
    name : str
        As ``params.backbone_names`` has it.
    image_size : int
        Side of the square image in pixels, at least the backbone's smallest.
    weights : str
        ``none``, ``imagenet`` (fetched by keras.applications into its cache, or out of a package: the architecture's
        file says), a path or an ``hf://`` address: see ``load_backbone_weights``.
    options : mapping
        Of params.yaml; each architecture's file says which. All know ``batch_norm_momentum``: the library's 0.99
        forgets too slowly when a network is trained from scratch for few steps. Published networks know ``until``: the
        name of the layer of ``body`` after which the network is cut off.
    channels : int
        3, or 4 of an image beside whose colours a mask lies; the weights are those of a network for 3 all the same.

    Returns
    -------
    keras.Model
        Named ``backbone``: uint8 or float [b, S, S, channels], RGB 0…255 → feature map [b, h, w, c]. Its layer ``body``
        is the network proper.

    Raises
    ------
    UserError
        Unknown or ill-typed options (all at once), weights that cannot be had or do not fit.
    """
    architecture = architecture_of(name)
    chosen = _checked_options(name, architecture.options, options)
    momentum, until = chosen.pop("batch_norm_momentum"), chosen.pop("until", "")
    if weights == "imagenet":
        body = _published(name, architecture, image_size, chosen)
    else:
        body = architecture.body(image_size, None, **chosen)
    # The name fixes where the weights lie in the library's own numbering of saved files.
    body.name = "body"
    if momentum is not None:
        for layer in flat_layers(body):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = float(momentum)
    if until:
        if is_published_file(weights):  # it holds the whole network
            whole = _with_preprocessing(architecture, body, image_size)
            load_backbone_weights(whole, weights, architecture.load_state)
            weights = "none"
        body = _cut_off(name, body, until)
    backbone = _with_preprocessing(architecture, body, image_size)
    if weights not in {"none", "imagenet"}:
        load_backbone_weights(backbone, weights, architecture.load_state)
    return backbone if channels == 3 else with_mask_channel(name, backbone)


def _with_preprocessing(architecture: Architecture, body: keras.Model, image_size: int) -> keras.Model:
    image = keras.Input((image_size, image_size, 3), dtype="uint8", name="pixels")
    return keras.Model(image, body(architecture.preprocessing()(image)), name="backbone")


def _cut_off(name: str, body: keras.Model, until: str) -> keras.Model:
    """The network up to a layer; raise ``UserError`` when there is none of this name that gives a feature map."""
    maps = [layer.name for layer in body.layers[1:] if len(layer.output.shape) == 4]
    if until not in maps:
        near = difflib.get_close_matches(until, maps, n=3, cutoff=0.4)
        hint = f"; did you mean {' or '.join(repr(layer) for layer in near)}?" if near else ""
        raise UserError(f"{name}: options.until: no layer {until!r} with a feature map{hint} (the last: {maps[-1]!r})")
    return keras.Model(body.input, body.get_layer(until).output, name=body.name)


def _published(name: str, architecture: Architecture, image_size: int, options: dict[str, Any]) -> keras.Model:
    if not architecture.published:
        raise UserError(f"{name}: there are no ImageNet weights for it; set weights to none, to a path or to hf://…")
    if architecture.published_size not in {None, image_size}:
        size = architecture.published_size
        raise UserError(f"{name}: its ImageNet weights need image_size {size}, not {image_size}")
    try:
        return architecture.body(image_size, "imagenet", **options)
    except UserError as error:  # of weights out of a package
        raise UserError(f"{name}: {error}") from None
    except Exception as error:  # the library raises a bare Exception when a download fails
        raise UserError(
            f"{name}: its ImageNet weights could not be had ({error}). Without a connection, fetch the …_notop.h5 file "
            "that keras.applications names for it elsewhere, and set weights to its path; or set weights to none"
        ) from error


def _checked_options(name: str, known: Mapping[str, OptionDefault], given: Mapping[str, Any]) -> dict[str, Any]:
    problems = []
    for key, value in given.items():
        if key not in known:
            near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            problems.append(f"options.{key}: unknown option{hint} (known: {', '.join(known)})")
        else:
            problems += [f"options.{key}: {problem}" for problem in _type_problems(key, known[key], value)]
    if problems:
        raise InputProblems(f"backbone {name}", problems)
    return {**known, **given}


def _type_problems(key: str, default: OptionDefault, value: Any) -> Iterator[str]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, list):
        if not isinstance(value, list) or not value or not all(_whole(v) for v in value):
            yield f"must be a list of whole numbers above 0, not {value!r}"
    elif isinstance(default, str):
        if not isinstance(value, str):
            yield f"must be a text, not {value!r}"
    elif isinstance(default, bool):
        if not isinstance(value, bool):
            yield f"must be true or false, not {value!r}"
    elif isinstance(default, int):
        if not _whole(value):
            yield f"must be a whole number above 0, not {value!r}"
    elif not number:
        yield f"must be a number, not {value!r}"
    elif key in {"dropout", "batch_norm_momentum"} and not 0 <= value < 1:
        yield f"must be at least 0 and below 1, not {value!r}"
    elif key == "alpha" and value <= 0:
        yield f"must be above 0, not {value!r}"


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
