from __future__ import annotations

import html
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from labelstack.registry.card import LIMIT, Facts, card, escaped

HOSTILE = [
    "<script>alert(1)</script>",
    "[click](javascript:alert(1))",
    "a | b | c",
    "`code` ```\nfence",
    "line\nbreak\r\n# heading",
    "*bold* __also__ ~~gone~~",
    "![x](http://example.org/p.png)",
    "&lt;b&gt; <img src=x onerror=alert(1)>",
    "\u202eright to left\u0000 \u200b",
    "www.example.org http://example.org",
]


def row(primary: float, **more: float) -> dict[str, Any]:
    return {
        "kind": "base model",
        "samples_f1_cross_fitted": primary,
        "samples_f1_cross_fitted_low": primary - 0.02,
        "samples_f1_cross_fitted_high": primary + 0.02,
    } | more


def facts(**change: Any) -> Facts:
    blend = row(0.7123, samples_f1_at_fixed=0.69, samples_f1_in_sample=0.72, test_samples_f1=0.7009)
    blend |= {"kind": "blend", "micro_f1_cross_fitted": 0.7, "macro_f1_cross_fitted": 0.5}
    given = Facts(
        name="labelstack",
        version=3,
        dataset="data/sample",
        data_digest="0123456789abcdef",
        images={"train": (1400, 1400), "validation": (10586, 9012), "test": (500, 493)},
        evaluation={
            "primary": "samples_f1_cross_fitted",
            "n_validation": 9012,
            "n_labels": 3,
            "scores": {
                "wide_net": row(0.61), "deep": row(0.62), "cnn": row(0.7) | {"kind": "stacker"}, "blend": blend,
            },
            "comparisons": [{"better": "blend", "other": "cnn", "difference": 0.0123, "low": 0.001, "high": 0.0234}],
        },
        weights={"wide_net": 0.0, "deep": 0.25, "cnn": 0.75},
        decision={
            "strategy": "per_label",
            "thresholds": {"7": 0.31, "3": 0.11, "5": 0.52},
            "decision": {"calibration": {"method": "platt"}, "at_least_one": True},
        },
        labels=[(7, "red"), (3, "blue"), (5, "green")],
        promotion="champion: better than v2 on the same data (+0.0100 samples F1)",
        lineage=[("git commit", "c0ffee"), ("seed", "2018"), ("MLflow run", "a1b2")],
        inputs={"data/predictions/deep": "aaa.dir", "data/manifest/labels.parquet": "bbb"},
        packages={"python": "3.11.7", "tensorflow": "2.21.0"},
    )  # fmt: skip
    return replace(given, **change)


def cells(text: str, first: str) -> list[str]:
    """The cells of the one table row that starts with a text."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_data() -> None:
    text = card(facts())
    assert "Data digest `0123456789abcdef`" in text
    assert "Data set: data/sample" in text
    assert cells(text, "validation") == ["validation", "10,586", "1,574"]
    assert cells(text, "test") == ["test", "500", "7"]
    assert "over 3 labels" in text
    assert "2 of 3 members" in text
    assert "No data digest" in card(facts(data_digest=""))


def test_scores_with_intervals() -> None:
    text = card(facts())
    assert cells(text, "samples F1")[1:] == ["0.7123", "0.6923 … 0.7323", "0.6900", "0.7200", "0.7009"]
    assert cells(text, "macro F1")[1:3] == ["0.5000", ""]
    assert cells(text, "mean average precision")[1] == "–"
    assert cells(text, "blend") == ["blend", "cnn", "+0.0123", "0.0010 … 0.0234"]
    assert text.index("| samples F1") < text.index("| micro F1")
    assert "9,012 validation images" in text


def test_another_beta_and_average_come_first() -> None:
    evaluation = facts().evaluation
    scores = {"blend": {"kind": "blend", "macro_f2_cross_fitted": 0.4, "samples_f2_cross_fitted": 0.6}}
    text = card(facts(evaluation={**evaluation, "primary": "macro_f2_cross_fitted", "scores": scores}))
    assert text.index("| macro F2 | 0.4000") < text.index("| samples F2 | 0.6000")
    assert cells(text, "deep") == ["deep", "", "0.250", "–", ""]


def test_a_ranking_metric_stands_with_the_f_that_decides_label_sets() -> None:
    key = "mean_average_precision"
    blend = {"kind": "blend", f"{key}_cross_fitted": 0.8, f"{key}_cross_fitted_low": 0.7, f"{key}_in_sample": 0.81}
    blend |= {f"{key}_cross_fitted_high": 0.9, f"test_{key}": 0.79, key: 0.805, "samples_f2_cross_fitted": 0.6}
    blend |= {"samples_f2_at_fixed": 0.5}
    evaluation = {**facts().evaluation, "primary": f"{key}_cross_fitted", "scores": {"blend": blend}}
    text = card(facts(evaluation=evaluation))
    assert cells(text, "mean average precision")[1:] == ["0.8000", "0.7000 … 0.9000", "–", "0.8100", "0.7900"]
    assert cells(text, "samples F2")[1:] == ["0.6000", "", "0.5000", "–", "–"]
    assert text.index("| mean average precision") < text.index("| samples F2")


def test_members_the_heaviest_first() -> None:
    text = card(facts())
    assert cells(text, "cnn") == ["cnn", "stacker", "0.750", "0.7000", "0.6800 … 0.7200"]
    assert cells(text, "`wide_net`")[2:] == ["0.000", "0.6100", "0.5900 … 0.6300"]
    assert text.index("| cnn") < text.index("| deep") < text.index("| `wide_net`")


def test_the_decision_rule() -> None:
    text = card(facts())
    assert "Strategy `per_label`, calibration platt, at least one label an image" in text
    assert "Thresholds of 3 labels: lowest 0.110 (blue), median 0.310, highest 0.520 (green)." in text
    without = card(facts(decision={"strategy": "expected_f", "thresholds": None, "decision": {}}))
    assert "Strategy `expected_f`, calibration none. This rule has no threshold for each label." in without


def test_lineage_rebuilding_and_use() -> None:
    text = card(facts())
    for what, value in (("git commit", "c0ffee"), ("seed", "2018"), ("data/predictions/deep", "aaa.dir")):
        assert cells(text, what)[1] == value
    assert "Made with python 3.11.7, tensorflow 2.21.0." in text
    assert "\nlabelstack rebuild models:/labelstack/3 --to rebuilt --verify\n" in text
    assert "\nlabelstack predict --model models:/labelstack/3 photo.jpg\n" in text
    assert 'mlflow.pyfunc.load_model("models:/labelstack/3")' in text
    assert "**At registration:** champion: better than v2" in text
    bare = card(facts(promotion="", inputs={}, packages={}))
    assert "At registration" not in bare
    assert "DVC hash" not in bare
    assert "Made with" not in bare


def test_a_name_that_a_shell_would_split() -> None:
    text = card(facts(name="it's `mine`; rm -rf x"))
    assert "rebuild 'models:/it'\"'\"'s mine; rm -rf x/3' --to" in text


def test_a_small_card_is_whole() -> None:
    assert card(facts(), LIMIT) == card(facts())


def large(n: int, name: str = "member_{}_with_a_rather_long_name_{}") -> Facts:
    names = [name.format(i, HOSTILE[i % len(HOSTILE)]) for i in range(n)]
    evaluation = dict(facts().evaluation)
    evaluation["scores"] = {n: row(0.5) for n in names} | {"blend": evaluation["scores"]["blend"]}
    evaluation["comparisons"] = [
        {"better": n, "other": names[0], "difference": 0.0, "low": 0.0, "high": 0.0} for n in names[:3]
    ]
    return facts(
        dataset=HOSTILE[0],
        promotion=" ".join(HOSTILE),
        evaluation=evaluation,
        weights={n: i / 100 for i, n in enumerate(names)},
        labels=[(7, HOSTILE[1]), (3, HOSTILE[2]), (5, HOSTILE[3])],
        lineage=[(text, text * 3) for text in HOSTILE],
        inputs={f"data/predictions/{n}": "0" * 36 for n in names},
        packages={HOSTILE[4]: HOSTILE[5]},
    )


@pytest.mark.parametrize("n", [1, 30, 300])
def test_a_large_card_is_shortened_and_says_so(n: int) -> None:
    whole, short = card(large(n)), card(large(n), LIMIT)
    assert len(short) <= LIMIT
    if n > 1:
        assert len(whole) > LIMIT
        assert "see `model_card.md` of the run" in short
    assert short.count("| ") <= whole.count("| ")


def test_shortening_keeps_every_section_and_the_first_rows() -> None:
    text = card(large(30, "member_{}"), LIMIT)
    for heading in ("Data", "Scores of the blend", "Members", "Decision rule", "Lineage", "Rebuild", "Use"):
        assert f"\n### {heading}\n" in text
    assert "| `member_29` |" in text
    more = re.search(r"… and (\d+) more members: see", text)
    assert more
    assert int(more[1]) + len(re.findall(r"^\| `member_\d+` \| base model", text, re.MULTILINE)) == 30


def test_a_tiny_limit_cuts_hard() -> None:
    text = card(large(30), 1000)
    assert len(text) <= 1000
    assert text.endswith("… the rest is in `model_card.md` of the run.")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_mean_nothing(name: str) -> None:
    text = card(large(30))
    assert "<" not in text
    assert not re.search(r"\]\(", text)
    assert not re.search(r"https?://", text)
    shown = escaped(name)
    assert not set(shown) & set("<>[]`*_|\n\r~!")
    assert "www." not in shown
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.count("|") in (3, 4, 5, 6, 7)


@given(st.text(max_size=60))
@example("\ufffe")
@example("a\U0010ffffb")
def test_what_a_reader_sees_is_the_name(text: str) -> None:
    shown = escaped(text)
    assert "\n" not in shown
    assert not re.search(r"[<>\[\]|*~]", shown)
    seen = html.unescape(shown).strip("`") if "`" in shown else html.unescape(shown)
    gaps = re.compile(r"[\x00-\x20\x7f-\xa0\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufdd0-\ufdef\ufeff]")
    cleaned = "".join(" " if gaps.match(c) or ord(c) & 0xFFFE == 0xFFFE else c for c in text)
    assert seen == re.sub(" +", " ", cleaned).strip()


def test_a_long_name_is_cut() -> None:
    assert escaped("x" * 81) == "x" * 79 + "…"
    assert escaped("x" * 81, 100) == "x" * 81


def test_views_are_said_once_for_most_models_and_apart_for_the_others() -> None:
    usual = [{"identity": 1, "hflip": 1}]
    shown = {"wide_net": usual, "deep": usual, "net_3": [{"at_480": 18, "hflip": 1}, {"a<b": 1}]}
    said = "Test-time views, whose logits are averaged: identity, hflip; `net_3`: `at_480` (18), hflip; or a&#60;b.\n"
    assert said in card(facts(views=shown, combine="logit"))
    assert "Test-time views, whose probabilities are averaged: identity, hflip.\n" in card(
        facts(views=dict(list(shown.items())[:2]))
    )
    assert "views" not in card(facts())
