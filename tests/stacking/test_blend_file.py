"""A blend as a file: written, read back, and the published one as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from labelstack.stacking.blend_file import FileMember, read_blend_file, weights_by_name, write_blend_file
from labelstack.support.errors import InputProblems, UserError

# Weights of best_ensemble_val_0.6397_lb_651.yml.
PUBLISHED = {
    "2b_se_resnext50": 0.143101, "2i_se_resnext101": 0.142700, "2j_cbam_resnet50": 0.143343, "2k_pnasnet5": 0.147851,
    "2o_se_resnext101": 0.142402, "4b_se_resnext101_352x352": 0.143580, "4f_se_resnext101_352x352": 0.142790,
}  # fmt: skip


def published(weights: dict[str, float]) -> str:
    """Indented as there, with file names as there."""
    lines = []
    for place, (version, weight) in enumerate(weights.items()):
        files = [f"level1_train_{version}_f{fold}_e{place + fold + 9:02d}_0.59{fold}7.npy" for fold in range(5)]
        lines += ["- predicts:", *(f"  - {file}" for file in files), f"  weight: {weight}"]
    return "\n".join(lines) + "\n"


def problems_of(path: Path, text: str, known: dict[str, list[str]] | None = None) -> list[str]:
    path.write_text(text)
    with pytest.raises(InputProblems) as caught:
        weights_by_name(read_blend_file(path), {"a": ["a.npz"], "b": []} if known is None else known, path)
    return caught.value.problems


def test_the_published_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "best.yml"
    path.write_text(published(PUBLISHED))
    members = read_blend_file(path)
    assert [len(member.predicts) for member in members] == [5] * 7
    called = {f"m{version}": weight for version, weight in PUBLISHED.items()}
    weights = weights_by_name(members, dict.fromkeys(called, ()), path)
    assert weights == called
    assert sum(weights.values()) == pytest.approx(1.005767)


def test_a_version_that_is_no_name_is_called_as_near_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_text("- {predicts: [../a/level1_train_V6.0-9_f0_e01_0.5.npy], weight: 2}\n")
    assert weights_by_name(read_blend_file(path), {"v6_0_9": ()}, path) == {"v6_0_9": 2.0}


def test_what_was_written_is_read_back_to_the_last_digit(tmp_path: Path) -> None:
    path = tmp_path / "blend.yml"
    members = [FileMember(("a/0/oof.npz", "a/1/oof.npz"), 1 / 3), FileMember(("b.npz",), 0.0)]
    write_blend_file(path, members)
    assert read_blend_file(path) == members
    known = {"a": ["a/0/oof.npz", "a/1/oof.npz"], "b": ["b.npz"], "c": ["c.npz"]}
    assert weights_by_name(read_blend_file(path), known, path) == {"a": 1 / 3, "b": 0.0}


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ("{predicts: [a.npz]}", "expected predicts and weight, found keys predicts"),
        ("3", "expected predicts and weight, found 3"),
        ("{predicts: a.npz, weight: 1}", "predicts: expected a list of file names, found 'a.npz'"),
        ("{predicts: [a.npz], weight: -1}", "weight: expected a number from 0, found '-1'"),
        ("{predicts: [a.npz], weight: .inf}", "weight: expected a number from 0, found 'inf'"),
        ("{predicts: [a.npz], weight: true}", "weight: expected a number from 0, found 'True'"),
        ("{predicts: [x.npz], weight: 1}", "predicts: expected a member of the blend (a, b), found x.npz"),
        (
            "{predicts: [level1_train_x_f0_e01_0.5.npy], weight: 1}",
            "predicts: expected a member of the blend (a, b), found x",
        ),
        (
            "{predicts: [level1_train_a_f0_e01_0.5.npy, level1_train_b_f1_e01_0.5.npy], weight: 1}",
            "predicts: expected files of one member, found a, b",
        ),
        (
            "{predicts: [level1_train_a_f0_e01_0.5.npy, level1_train_a_f0_e02_0.6.npy], weight: 1}",
            "predicts: expected one file for each fold, found folds 0, 0",
        ),
    ],
)
def test_bad_items_are_told_in_a_sentence(tmp_path: Path, item: str, told: str) -> None:
    assert problems_of(tmp_path / "x.yml", f"- {item}\n") == [f"x.yml: item 0: {told}"]


def test_a_member_twice_and_no_weight_at_all(tmp_path: Path) -> None:
    twice = problems_of(tmp_path / "x.yml", "- {predicts: [a.npz], weight: 1}\n" * 2)
    assert twice == ["x.yml: item 1: predicts: expected each member once, found a again"]
    nothing = problems_of(tmp_path / "x.yml", "- {predicts: [a.npz], weight: 0}\n")
    assert nothing == ["x.yml: expected one weight above 0 at least, found none"]


def test_what_is_no_blend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x.yml: not found"):
        read_blend_file(tmp_path / "x.yml")
    (tmp_path / "x.yml").write_text("weights: {a: 1}\n")
    with pytest.raises(UserError, match=r"expected a list of members, each with predicts and weight"):
        read_blend_file(tmp_path / "x.yml")
