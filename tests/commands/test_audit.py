"""`labelstack audit`: a table that `ingest` takes back as corrections, and a page; by hand-made files of stages."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from labelstack.commands import audit
from labelstack.commands.check import missing_corrections
from labelstack.formats.corrections import corrected
from labelstack.formats.format import CompetitionData
from labelstack.formats.manifest import label_matrix, read_manifest, write_manifest
from labelstack.formats.submission import Form
from labelstack.params import load_params
from labelstack.params.dataset import DatasetSection
from labelstack.predictions import write_predictions
from labelstack.stages import paths
from labelstack.stages.fold_files import write_stacking
from labelstack.stages.members import THE_BLEND
from labelstack.support.errors import InputProblems, UserError

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["=dress", "hat <b>", "coat"]
N = 120


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 10, 10)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A folder in which the stages up to blend have run; of one place in seven the label was left out. The truth."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    rng = np.random.default_rng(0)
    true = rng.random((N, 3)) < [0.5, 0.4, 0.3]
    given = true & ~(np.arange(3 * N).reshape(N, 3) % 7 == 0)
    given[5, 0], true[5, 0] = True, False  # and one is wrong
    ids, names = np.arange(10**12, 10**12 + N), [f"{i}.png" for i in range(N)]
    names[5] = "https://person:hunter2hunter2@host/5.png"
    sets = [np.flatnonzero(row).tolist() for row in given]
    columns = {
        "image_id": ids,
        "url": pd.Series([[name] for name in names], dtype=object),
        "label_id": pd.Series(sets, dtype=object),
        "name": pd.Series(names, dtype="str"),
    }
    write_manifest(paths.manifest("validation"), pd.DataFrame(columns))
    counts = {"n_train": 0, "n_validation": given.sum(axis=0)}
    pd.DataFrame({"label_id": np.arange(3, dtype=np.int32), "name": NAMES, "group": ""} | counts).to_parquet(
        paths.LABELS
    )
    write_stacking(ids[::-1].copy(), np.arange(N) % 5)
    P = np.clip(np.where(true, 0.9, 0.08) + rng.normal(0, 0.02, true.shape), 0, 1).astype(np.float32)
    write_predictions(THE_BLEND.oof, ids, P)
    monkeypatch.setattr(audit, "images_by_id", lambda folder, wanted: dict.fromkeys(map(int, wanted), jpeg()))
    return true


def fixed(root: Path) -> np.ndarray:
    """Labels of the data set after the corrections in a table."""
    manifest, labels = read_manifest(paths.manifest("validation")), pd.read_parquet(paths.LABELS)
    data = CompetitionData({"validation": manifest}, labels, Form(np.arange(1)), {})
    sets: Any = corrected(root, "doubts.csv", data).manifests["validation"]["label_id"].tolist()
    return label_matrix(sets, labels["label_id"].to_numpy()).astype(bool)


def test_the_table_read_back_as_corrections_mends_what_was_wrong(
    truth: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    before = given()
    audit.run()
    text, after = (paths.REPORT / "doubts.csv").read_text(), fixed(paths.REPORT)
    missing, wrong = text.count(",add,validation,"), text.count(",remove,validation,")
    assert text.count("\n") == 1 + missing + wrong
    assert ((after & ~before).sum(), (before & ~after).sum()) == (missing, wrong)
    assert (after != truth).sum() * 4 <= (before != truth).sum()
    assert after[5, 0] == truth[5, 0]  # the label that was put in wrongly, of an image that goes by its id
    said = capsys.readouterr().out
    expected = f"audit: {missing} labels likely missing, {wrong} likely wrong, of 120 validation images, by blend"
    assert said.startswith(expected)
    assert "base_models: [0, 1, …]" in said
    assert text.startswith("id,label,correction,split,probability\n")
    assert "'=dress" in text  # no formula of a spreadsheet
    assert "hunter2" not in text


def test_the_page_shows_the_most_doubtful_images_with_all_their_labels(truth: np.ndarray) -> None:
    audit.run(to=Path("elsewhere"))
    page, table = (Path("elsewhere", name).read_text() for name in ("doubts.html", "doubts.csv"))
    images = {line.partition(",")[0] for line in table.splitlines()[1:]}
    assert page.count('<figure class="item">') == min(audit.SHOWN, len(images))
    assert page.count("data:image/jpeg") == page.count('<figure class="item">')
    assert "hat &lt;b&gt;" in page
    assert "hat <b>" not in page
    assert "hunter2" not in page
    first = page.partition('<figure class="item">')[2].partition("</figure>")[0]
    assert 'class="missed"' in first or 'class="wrong"' in first


def given() -> np.ndarray:
    sets = read_manifest(paths.manifest("validation"))["label_id"].tolist()
    return label_matrix(sets, np.arange(3)).astype(bool)


def test_without_doubts_both_files_say_so(truth: np.ndarray) -> None:
    write_predictions(THE_BLEND.oof, 10**12 + np.arange(N), np.where(given(), 0.9, 0.1).astype(np.float32))
    audit.run()
    assert (paths.REPORT / "doubts.csv").read_text() == "id,label,correction,split,probability\n"
    assert "No label is doubtful." in (paths.REPORT / "doubts.html").read_text()


def test_what_is_not_there_is_said(truth: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"^nobody: no such member \(there are: plain_cnn, .*blend\)$"):
        audit.run("nobody")
    with pytest.raises(UserError, match=r"plain_cnn/oof\.npy: not found\. Run `dvc repro` first\.$"):
        audit.run("plain_cnn")


def test_check_names_a_file_of_corrections_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = DatasetSection(root="mine", corrections="fixes.csv")
    assert missing_corrections(dataset) == ["mine/fixes.csv: not there yet, and dataset.corrections wants it"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/fixes.csv").touch()
    assert missing_corrections(dataset) == missing_corrections(DatasetSection()) == []


def test_corrections_lie_below_the_root(tmp_path: Path) -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    for wrong in ("/etc/x.csv", "../x.csv", "https://host/x.csv"):
        content["dataset"]["corrections"] = wrong
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
        with pytest.raises(InputProblems, match=r"dataset\.corrections: must be a path"):
            load_params(tmp_path / "params.yaml")
