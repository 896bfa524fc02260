from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelstack.sample.labels import GARMENTS, GROUPS, NAMES, Outfit, annotate, sample_outfit

N = 3000


@pytest.fixture(scope="module")
def outfits() -> list[Outfit]:
    return [sample_outfit(np.random.default_rng([1, i])) for i in range(N)]


def share(outfits: list[Outfit], name: str, given: str = "") -> float:
    rows = [names for names in (outfit.names() for outfit in outfits) if not given or given in names]
    return sum(name in names for names in rows) / len(rows)


def test_at_least_forty_labels_each_in_a_group() -> None:
    assert len(NAMES) == len(set(NAMES)) >= 40
    assert {name.split("::")[0] for name in NAMES} == set(GROUPS)
    assert set(GARMENTS) == set(GROUPS["garment"])
    assert sum(kind.share for kind in GARMENTS.values()) == pytest.approx(1)


def test_three_to_eight_labels_and_every_label_occurs(outfits: list[Outfit]) -> None:
    counts = Counter(len(outfit.names()) for outfit in outfits)
    assert min(counts) >= 3
    assert max(counts) <= 8
    assert len(counts) == 6
    assert {name for outfit in outfits for name in outfit.names()} == set(NAMES)


def test_what_cannot_be_is_never_labelled(outfits: list[Outfit]) -> None:
    for outfit in outfits:
        if outfit.garment in {"skirt", "trousers", "shorts"}:
            assert not outfit.sleeve
            assert not outfit.neckline
        else:
            assert outfit.sleeve
            assert outfit.neckline
        assert not (outfit.material == "denim" and outfit.pattern)
        assert len(outfit.colours) == len(set(outfit.colours)) in (1, 2)


def test_labels_go_together(outfits: list[Outfit]) -> None:
    assert share(outfits, "colour::blue", "material::denim") > 0.7 > 3 * share(outfits, "colour::blue")
    assert share(outfits, "season::winter", "garment::coat") > 0.9
    assert share(outfits, "sleeve::long", "garment::coat") == 1
    assert share(outfits, "season::summer", "sleeve::sleeveless") > 1.6 * share(outfits, "season::summer")
    assert share(outfits, "style::formal", "garment::blazer") > 3 * share(outfits, "style::formal")


def test_some_labels_are_rare(outfits: list[Outfit]) -> None:
    counts = Counter(name for outfit in outfits for name in outfit.names())
    rare = [name for name in NAMES if counts[name] < 0.035 * N]
    assert "material::lace" in rare
    assert 2 <= len(rare) <= 10


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 0.5))
def test_annotations_keep_three_to_eight_known_labels_in_order(seed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    noisy = annotate(sample_outfit(rng).names(), noise, rng)
    assert 3 <= len(noisy) <= 8
    assert noisy == [name for name in NAMES if name in noisy]


def test_without_noise_annotations_are_the_truth(outfits: list[Outfit]) -> None:
    rng = np.random.default_rng(0)
    assert all(annotate(outfit.names(), 0.0, rng) == outfit.names() for outfit in outfits[:200])


def test_labels_are_forgotten_and_invented_at_the_stated_rate(outfits: list[Outfit]) -> None:
    rng = np.random.default_rng(0)
    true = forgotten = invented = 0
    for outfit in outfits:
        names = outfit.names()
        if len(names) not in (5, 6):  # far from the bounds of 3 and 8, which bend the rate
            continue
        noisy = annotate(names, 0.1, rng)
        true += len(names)
        forgotten += len(set(names) - set(noisy))
        invented += len(set(noisy) - set(names))
        groups = {name.split("::")[0] for name in names}
        assert all(name.split("::")[0] in groups for name in noisy)
    assert forgotten / true == pytest.approx(0.1, abs=0.012)
    assert invented / true == pytest.approx(0.1, abs=0.015)
