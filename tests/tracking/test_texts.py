from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from labelstack.tracking.texts import clean_key, clean_params, without_credentials


@given(st.text(max_size=400))
def test_every_key_becomes_one_that_mlflow_accepts(key: str) -> None:
    from mlflow.utils.validation import _validate_metric_name, _validate_param, _validate_tag_name

    cleaned = clean_key(key)
    _validate_metric_name(cleaned)
    _validate_tag_name(cleaned)
    _validate_param(cleaned, clean_params({key: key})[cleaned])


def test_keys_that_are_fine_stay() -> None:
    for key in ("samples_f1_at_0.3", "dvc.data/images/train", "labelstack.member.cnn", "a b-c:d"):
        assert clean_key(key) == key


def test_long_keys_stay_different() -> None:
    assert clean_key("a" * 300 + "x") != clean_key("a" * 300 + "y")


def test_credentials() -> None:
    assert without_credentials("https://u:p@h/x?y=1") == "https://h/x?y=1"
    assert without_credentials("https://u:p@q/r@h/x") == "https://q/r@h/x"
    assert without_credentials("failed: postgresql://u:p@h/db (timeout)") == "failed: postgresql://h/db (timeout)"
    assert without_credentials("data/a@b") == "data/a@b"
    assert "hunter2" not in clean_params({"url": {"x": "http://me:hunter2@h"}})["url"]
