"""What `labelstack.stacking` hands out, and what it leaves alone until it is asked."""

from __future__ import annotations

import subprocess
import sys

import pytest

import labelstack.stacking as stacking


@pytest.mark.parametrize("name", stacking.__all__)
def test_every_name_is_there(name: str) -> None:
    value = getattr(stacking, name)
    assert value.__name__.rpartition(".")[2] == name
    assert value.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"'labelstack\.stacking' has no attribute 'stack'"):
        _ = stacking.stack


def test_files_with_the_names_of_nothing_else() -> None:
    """A function is not hidden by a file of its name once that is imported."""
    code = (
        "import labelstack.stacking.blending, labelstack.stacking.fold_predictions\n"
        "from labelstack.stacking import blend, out_of_fold\n"
        "assert callable(blend) and callable(out_of_fold)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_folds_and_scores_need_no_learning_library() -> None:
    code = (
        "import sys, labelstack.stacking.folds, labelstack.stacking.crossfit\n"
        "print(*{'sklearn', 'scipy.stats', 'scipy.optimize', 'xgboost', 'tensorflow'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""
