"""What `dataset.task` means to other sections: the losses, decision rules and calibrations that fit it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from labelstack.params.loss_names import LOSS_TASKS
from labelstack.params.losses import plain_losses
from labelstack.params.metric import ATTRIBUTE_METRICS, MetricSection
from labelstack.params.thresholds import ARGMAX, TEMPERATURE, ThresholdsSection
from labelstack.support.fashionai_values import VALUES

Task = Literal["multi_label", "single_label"]
MULTI: Task = "multi_label"
SINGLE: Task = "single_label"
FASHIONAI = "fashionai2018"
CROSS_ENTROPY = "cross_entropy"


def with_usual(content: Any) -> Any:
    """The content of a params file with what is usual for its task in the place of what is not stated.

    Only `single_label` has anything of the kind: networks learn by cross-entropy, the most probable label is given
    (which `auto` means then), and a temperature calibrates. FashionAI 2018 is scored by its mAP.
    """
    dataset = content.get("dataset") if isinstance(content, dict) else None
    if not isinstance(dataset, dict) or dataset.get("task") != SINGLE:
        return content
    content = dict(content)
    thresholds, models = content.get("thresholds", {}), content.get("models")
    if dataset.get("format") == FASHIONAI:
        metric = content.get("metric", {})
        content["metric"] = {"primary": "attribute_map"} | metric if isinstance(metric, dict) else metric
    if isinstance(thresholds, dict):
        content["thresholds"] = {"calibration": TEMPERATURE} | thresholds
        if thresholds.get("strategy", "auto") == "auto":
            content["thresholds"]["strategy"] = ARGMAX
    if isinstance(models, dict):
        content["models"] = {
            name: {"loss": CROSS_ENTROPY} | model if isinstance(model, dict) else model
            for name, model in models.items()
        }
    return content


def task_problems(task: Task, thresholds: ThresholdsSection, losses: Iterable[tuple[str, str]]) -> Iterator[str]:
    """A sentence for each section that does not fit the task.

    Parameters
    ----------
    losses : key of a network's loss in params.yaml, and its name
    """
    single = task == SINGLE
    if thresholds.exclusive != single:
        what = "exactly one label" if thresholds.exclusive else "any number of labels"
        use = f"{ARGMAX} (or auto, which means it)" if single else "another, such as auto"
        yield f"thresholds.strategy: {thresholds.strategy} gives {what}, and dataset.task is {task}: use {use}"
    fits = thresholds.calibration in ("none", TEMPERATURE) if single else thresholds.calibration != TEMPERATURE
    if not fits:
        why = "would not keep the sum of an image's probabilities at 1" if single else "is for labels that sum to 1"
        use = f"{TEMPERATURE} or none" if single else "platt, isotonic, beta or none"
        yield f"thresholds.calibration: {thresholds.calibration} {why}, and dataset.task is {task}: use {use}"
    for key, loss in losses:
        if LOSS_TASKS.get(loss, task) != task:
            fitting = ", ".join(name for name, of in LOSS_TASKS.items() if of == task)
            yield f"{key}: {loss} is for {LOSS_TASKS[loss]}, and dataset.task is {task}: use {fitting}"


def group_problems(name: str, metric: MetricSection, thresholds: ThresholdsSection) -> Iterator[str]:
    """A sentence for what is for rows that know one label group each, where a format has no such."""
    if name == FASHIONAI:
        return
    if metric.primary in ATTRIBUTE_METRICS:
        yield f"metric.primary: {metric.primary} is for rows of one attribute each, as {FASHIONAI} has them"
    if thresholds.prior_bias:
        yield f"thresholds.prior_bias: is for rows of one attribute each, as {FASHIONAI} has them"


def format_problems(name: str, task: Task, soft_labels: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """A sentence where a format of this name has rows of another task, or no labels that may be true.

    Parameters
    ----------
    soft_labels : key of a network's ``soft_labels`` in params.yaml, and what it says
    """
    if name == FASHIONAI and task != SINGLE:
        yield f"dataset.task: must be {SINGLE} with dataset.format {name}, whose rows have one value each; not {task}"
    for key, said in soft_labels:
        if said != "none" and name != FASHIONAI:
            yield f"{key}: is for labels that may be true, which dataset.format {FASHIONAI} has alone: set it to none"
        elif isinstance(said, dict) and (strange := [group for group in said if group not in VALUES]):
            yield f"{key}: there is no label group {', '.join(strange)}; there are {', '.join(VALUES)}"


def model_group_problems(name: str, models: Mapping[str, Any]) -> Iterator[str]:
    """A sentence where a model is to know some label groups alone, and there are none, or they differ by fold."""
    for model, section in models.items():
        key = f"models.{model}.groups"
        if section.groups and name != FASHIONAI:
            yield f"{key}: is for rows that know one label group each, which dataset.format {FASHIONAI} has alone"
        elif strange := [group for group in section.groups if group not in VALUES]:
            yield f"{key}: there is no label group {', '.join(strange)}; there are {', '.join(VALUES)}"
        for fold, own in section.by_fold.items():
            if "groups" in own:
                yield f"models.{model}.by_fold.{fold}.groups: the networks of a model know the same label groups"


def stated_soft_labels(models: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Key and value of ``soft_labels`` of every model, of folds and second-round models with their own."""
    for name, model in models.items():
        yield f"models.{name}.soft_labels", model.soft_labels
        for fold, own in model.by_fold.items():
            yield f"models.{name}.by_fold.{fold}.soft_labels", own.get("soft_labels", "none")
    for name, section in second.items():
        if "soft_labels" in section.model_fields_set:
            yield f"second_round.{name}.soft_labels", section.soft_labels


def stated_losses(models: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Key and name of every loss that a model's is made of, and of folds and second-round models with their own."""
    for name, model in models.items():
        yield from plain_losses(model.loss, f"models.{name}.loss")
        for fold, own in model.by_fold.items():
            yield from plain_losses(own.get("loss"), f"models.{name}.by_fold.{fold}.loss")
    for name, section in second.items():
        if "loss" in section.model_fields_set:
            yield from plain_losses(section.loss, f"second_round.{name}.loss")
