"""The model card: a version's page in the registry, in Markdown."""

from __future__ import annotations

import json
import re
import shlex
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labelstack.scoring.metric import FMetric, metric_of_key

LIMIT = 5000  # characters that MLflow's databases keep of a description
_MAX_NAME = 80
_PLAIN = re.compile(r"[A-Za-z0-9_./@-]+")  # safe, but for _, in text; safe between code marks
# what may mean something to Markdown or HTML
_ACTIVE = re.compile(r"[^\w .,:;=%/()+…–—-]|_|:(?! )|(?<=www)\.", re.IGNORECASE)
_NONCHARACTERS = "".join(chr(plane * 0x10000 + last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
_UNPRINTABLE = re.compile(
    rf"[\x00-\x20\x7f-\xa0\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufdd0-\ufdef\ufeff{_NONCHARACTERS}]+"
)


@dataclass(frozen=True)
class Facts:
    """What a card tells.

    Attributes
    ----------
    name, version : of the registry
    dataset : where the data set lies
    data_digest : of images, labels and truth that the scores were taken on
    images : split → (images, downloaded)
    evaluation : the content of metrics/evaluation.json
    weights : blend weight of each member
    decision : the content of thresholds.json
    labels : (label_id, name), in the order of the probability columns
    promotion : the decision on this version in a sentence
    lineage : (what, value), such as git commit and params digest
    inputs : DVC hash by path
    packages : version by name
    views : of each model its test-time views, by their names in params.yaml how many each stands for; of several
        networks that differ one such list each
    beside : of a model alone, it and the ensemble: scores, ``bytes`` and ``images_per_second`` by name
    combine : what their mean is taken of, ``probability`` or ``logit``
    """

    name: str
    version: int
    dataset: str
    data_digest: str
    images: Mapping[str, tuple[int, int]]
    evaluation: Mapping[str, Any]
    weights: Mapping[str, float]
    decision: Mapping[str, Any]
    labels: Sequence[tuple[int, str]]
    promotion: str = ""
    lineage: Sequence[tuple[str, str]] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    views: Mapping[str, Sequence[Mapping[str, int]]] = field(default_factory=dict)
    combine: str = "probability"
    beside: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """What ``mlflow.pyfunc.load_model`` takes."""
        return f"models:/{self.name}/{self.version}"


@dataclass(frozen=True)
class _Table:
    """A table that may be shortened at its end."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    what: str

    def lines(self, most: int | None) -> Iterator[str]:
        yield f"| {' | '.join(self.heads)} |"
        yield f"|{'---|' * len(self.heads)}"
        kept = self.rows if most is None else self.rows[:most]
        for row in kept:
            yield f"| {' | '.join(row)} |"
        if len(kept) < len(self.rows):
            yield ""
            yield f"… and {len(self.rows) - len(kept)} more {self.what}: see `model_card.md` of the run."


def card(facts: Facts, limit: int | None = None) -> str:
    """Markdown of a version's page: data, members, scores, decision rule, lineage, rebuilding and use.

    Parameters
    ----------
    limit : int, optional
        Most characters; long tables are shortened, and say so. None: all of it.
    """
    sections = _sections(facts)
    longest = max(len(part.rows) for part in sections if isinstance(part, _Table))
    text = _joined(sections, None)
    for most in range(longest, -1, -1):
        if limit is None or len(text) <= limit:
            return text
        text = _joined(sections, most)
    end = "\n\n… the rest is in `model_card.md` of the run."
    return text if len(text) <= limit else text[: limit - len(end)] + end  # type: ignore[operator]


def escaped(value: object, most: int = _MAX_NAME) -> str:
    """A text of unknown origin on one line, cut, and without meaning for Markdown or HTML."""
    text = _UNPRINTABLE.sub(" ", str(value)).strip()
    text = text if len(text) <= most else text[: most - 1] + "…"
    if "_" in text and _PLAIN.fullmatch(text):
        return f"`{text}`"
    return _ACTIVE.sub(lambda found: f"&#{ord(found[0])};", text)


def _joined(parts: Sequence[str | _Table], most: int | None) -> str:
    return "\n\n".join(part if isinstance(part, str) else "\n".join(part.lines(most)) for part in parts) + "\n"


def _sections(facts: Facts) -> list[str | _Table]:
    return [
        f"Multi-label ensemble of {_members_used(facts)} over {facts.evaluation['n_labels']} labels.",
        *([f"**At registration:** {escaped(facts.promotion, 400)}"] if facts.promotion else []),
        *_data(facts),
        *_scores(facts),
        *_members(facts),
        *_beside(facts),
        *_decision(facts),
        *_lineage(facts),
        *_use(facts),
    ]


def _members_used(facts: Facts) -> str:
    used = sum(weight > 0 for weight in facts.weights.values())
    return f"{used} of {len(facts.weights)} members" if used < len(facts.weights) else f"{used} members"


def _data(facts: Facts) -> list[str | _Table]:
    rows = [[escaped(split), f"{n:,}", f"{n - ok:,}"] for split, (n, ok) in facts.images.items()]
    digest = f"Data digest `{_code(facts.data_digest)}`" if facts.data_digest else "No data digest"
    return [
        "### Data",
        f"{digest} (images, labels and truth of the scores below). Data set: {escaped(facts.dataset)}",
        _Table(("split", "images", "not downloaded"), rows, "splits"),
    ]


def _scores(facts: Facts) -> list[str | _Table]:
    evaluation, blend = facts.evaluation, facts.evaluation["scores"]["blend"]
    primary, audit = metric_of_key(evaluation["primary"], blend) or FMetric(), evaluation.get("n_audit", 0)
    rows = []
    for metric in sorted(primary.family, key=lambda metric: metric != primary):
        key = metric.key
        bounds = _interval(blend, metric.cross_fitted)
        kinds = (f"{key}_at_fixed", f"{key}_in_sample", *([f"audit_{key}"] if audit else []), f"test_{key}")
        others = [_number(blend.get(kind)) for kind in kinds]
        rows.append([escaped(metric.title), _number(blend.get(metric.cross_fitted)), bounds, *others])
    if primary.key != "mean_average_precision":
        rows.append(
            ["mean average precision", _number(blend.get("mean_average_precision")), *[""] * (5 if audit else 4)]
        )
    audited = ("audit",) if audit else ()
    compared = [
        [escaped(row["better"]), escaped(row["other"]), f"{row['difference']:+.4f}", _bounds(row["low"], row["high"])]
        for row in evaluation.get("comparisons", [])
    ]
    return [
        "### Scores of the blend",
        f"On {evaluation['n_validation']:,} {evaluation.get('rows', 'validation images')}; *cross-fitted*: weights and "
        "rule were chosen without the scored fold. Intervals are from a bootstrap over images."
        + (f" *Audit*: {audit:,} images that nothing was learned from or chosen by." if audit else "")
        + "".join(f" {escaped(sentence, 400)}" for sentence in evaluation.get("caveats", [])),
        _Table(("score", "cross-fitted", "95 % interval", "at fixed", "in-sample", *audited, "test"), rows, "scores"),
        *([_Table(("row", "against", "difference", "95 % interval"), compared, "comparisons")] if compared else []),
    ]


def _members(facts: Facts) -> list[str | _Table]:
    scores, primary = facts.evaluation["scores"], facts.evaluation["primary"]
    rows = []
    for name, weight in sorted(facts.weights.items(), key=lambda member: -member[1]):
        row = scores.get(name, {})
        found = [_number(row.get(primary)), _interval(row, primary)]
        kind = escaped(row.get("kind", "")) + (", flattered" if row.get("flattered") else "")
        rows.append([escaped(name), kind, f"{weight:.3f}", *found])
    return [
        "### Members",
        _Table(("member", "kind", "weight", escaped(primary), "95 % interval"), rows, "members"),
        *_views(facts),
    ]


def _beside(facts: Facts) -> list[str | _Table]:
    """A model alone and the ensemble that it is a member of."""
    if not facts.beside:
        return []
    primary, rows = facts.evaluation["primary"], []
    key = primary.removesuffix("_cross_fitted")
    for name, row in facts.beside.items():
        flattered = " (flattered)" if row.get("flattered") else ""
        others = [_number(row.get(f"audit_{key}")), _number(row.get(f"test_{key}"))]
        speed = [f"{row['bytes'] / 1e6:,.1f}", f"{row['images_per_second']:,.1f}"]
        rows.append([escaped(name), _number(row.get(primary)) + flattered, _interval(row, primary), *others, *speed])
    heads = ("model", escaped(primary), "95 % interval", "audit", "test", "MB", "images/s")
    return [
        "### Beside the ensemble",
        "Images a second of this machine at registration, from file to labels, all cores.",
        _Table(heads, rows, "models"),
    ]


def _views(facts: Facts) -> Iterator[str]:
    """Which views of an image the networks' answers are the mean of; those that most models have are said once."""
    shown = {name: "; or ".join(_and(names) for names in lists) for name, lists in facts.views.items()}
    if not shown:
        return
    usual = statistics.mode(shown.values())
    what = "probabilities" if facts.combine == "probability" else "logits"
    own = "".join(f"; {escaped(name)}: {text}" for name, text in shown.items() if text != usual)
    yield f"Test-time views, whose {what} are averaged: {usual}{own}."


def _and(names: Mapping[str, int]) -> str:
    return ", ".join(escaped(name) + (f" ({n})" if n > 1 else "") for name, n in names.items())


def _decision(facts: Facts) -> list[str | _Table]:
    rule = facts.decision.get("decision", {})
    calibration = rule.get("calibration", {}).get("method", "none")
    said = f"Strategy {escaped(facts.decision['strategy'])}, calibration {escaped(calibration)}"
    said += ", at least one label an image" if rule.get("at_least_one") else ""
    thresholds = facts.decision.get("thresholds")
    if not thresholds:
        return ["### Decision rule", f"{said}. This rule has no threshold for each label."]
    names = {str(label_id): name for label_id, name in facts.labels}
    ranked = sorted(thresholds, key=lambda label_id: thresholds[label_id])
    low, high = (escaped(names.get(i, i)) for i in (ranked[0], ranked[-1]))
    values = list(thresholds.values())
    return [
        "### Decision rule",
        f"{said}. Thresholds of {len(values)} labels: lowest {min(values):.3f} ({low}), median "
        f"{statistics.median(values):.3f}, highest {max(values):.3f} ({high}).",
    ]


def _lineage(facts: Facts) -> list[str | _Table]:
    facts_ = [[escaped(what), escaped(value, 200)] for what, value in facts.lineage]
    inputs = [[escaped(path, 200), escaped(value)] for path, value in sorted(facts.inputs.items())]
    packages = ", ".join(f"{escaped(name)} {escaped(version)}" for name, version in facts.packages.items())
    return [
        "### Lineage",
        _Table(("what", "value"), facts_, "entries"),
        *([_Table(("input", "DVC hash"), inputs, "inputs")] if inputs else []),
        *([f"Made with {packages}."] if packages else []),
    ]


def _use(facts: Facts) -> list[str | _Table]:
    uri = _code(shlex.quote(facts.uri))
    return [
        "### Rebuild",
        f"```\nlabelstack rebuild {uri} --to rebuilt --verify\n```",
        "restores models, thresholds, params.yaml and dvc.lock, predicts the stored test images again and compares.",
        "### Use",
        f"```\nlabelstack predict --model {uri} photo.jpg\nmlflow models serve -m {uri} --env-manager local\n```",
        f"In Python: `mlflow.pyfunc.load_model({_code(json.dumps(facts.uri, ensure_ascii=False))})`, then `.predict` "
        "of a table with one column `image`: a URL, base64, or a path below a folder that the environment variable "
        "`LABELSTACK_ALLOW_PATHS` names.",
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _interval(scores: Mapping[str, Any], key: str) -> str:
    low, high = scores.get(f"{key}_low"), scores.get(f"{key}_high")
    return "" if low is None or high is None else _bounds(low, high)


def _bounds(low: float, high: float) -> str:
    return f"{low:.4f} … {high:.4f}"


def _code(text: str) -> str:
    """A text for the inside of code marks, where no escapes work."""
    return _UNPRINTABLE.sub(" ", text).replace("`", "").replace("|", "")
