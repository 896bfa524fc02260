"""The page as bytes: self-contained, deterministic, and deaf to hostile names."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from labelstack.report.content import LeaderboardRow, MLflowHint
from labelstack.report.html import GALLERY_SIDE, render, write_report
from labelstack.report.page import web_url
from report import made_up


class Tags(HTMLParser):
    """Every tag with its attributes, and headings in order."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page() -> bytes:
    return render(made_up.content())


def test_same_content_gives_the_same_bytes(page: bytes, tmp_path: Path) -> None:
    path = tmp_path / "report" / "index.html"
    write_report(path, made_up.content())
    assert path.read_bytes() == page
    assert [file.name for file in path.parent.iterdir()] == ["index.html"]
    assert len(page) < 3_000_000


def test_page_is_whole_and_asks_for_nothing(page: bytes) -> None:
    tags = Tags(page)
    assert not {name for name, _ in tags.tags} & {"iframe", "object", "embed", "base", "form"}
    for name, attributes in tags.tags:
        for key in ("src", "srcset"):
            assert (attributes.get(key) or "data:").startswith("data:"), name
    assert all((link["href"] or "").startswith("data:") for link in tags.all("link"))
    assert not re.search(rb"url\(|@import", page.split(b"<body>")[0])
    policy = next(meta["content"] for meta in tags.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "script-src 'sha256-" in policy
    assert tags.all("html")[0]["lang"] == "en"


def test_headings_are_in_order_and_every_anchor_exists(page: bytes) -> None:
    tags = Tags(page)
    levels = [int(name[1]) for name, _ in tags.tags if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in tags.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    anchors = {(link["href"] or "")[1:] for link in tags.all("a") if (link["href"] or "").startswith("#")}
    assert anchors <= set(ids)
    assert {"summary", "leaderboard", "labels", "training", "thresholds", "blend", "gallery", "runs"} <= anchors


def test_counts_of_rows_labels_and_images(page: bytes) -> None:
    text = page.decode()
    assert text.count('<figure class="item">') == 24
    assert all(image["alt"] for image in Tags(page).all("img"))
    labels = text[text.index('id="label-table"') : text.index('id="training"')]
    assert labels.count('<th scope="row">') == 44
    board = text[text.index('class="sortable scores"') : text.index('id="labels"')]
    assert board.count('<th scope="row">') == 6
    for item in made_up.gallery():
        alt = f"Validation image {item.image_id}: {item.count('hit')} hit, {item.count('missed')} missed"
        assert alt in text


def test_summary_names_cross_fitted_in_sample_and_test_scores(page: bytes) -> None:
    text = " ".join(re.sub("<[^>]+>", "", page.decode().split('id="summary"')[1].split("</section>")[0]).split())
    assert "0.752 samples F1 of blend, cross-fitted" in text
    assert "reads 0.770 (in-sample, flattered)" in text
    assert "On the withheld test answers: 0.748." in text
    assert "the stacker cnn with 0.741: the blend is 0.011 above it." in text


def test_summary_admits_a_blend_that_is_not_the_best() -> None:
    rows = [
        LeaderboardRow("cnn", "stacker", cross_fitted=made_up.f1(0.8, 0.8, 0.8)),
        LeaderboardRow("blend", "blend", cross_fitted=made_up.f1(0.75, 0.8, 0.8)),
    ]
    text = render(made_up.brief(leaderboard=rows)).decode()
    assert "<b>below</b> it" in text
    assert "0.050" in text
    assert "In-sample</th>" not in text
    assert "Test, tuned" not in text


def test_hostile_names_stay_text() -> None:
    hostile = render(made_up.hostile())
    tags = Tags(hostile)
    assert len(tags.all("script")) == 1
    assert not [attributes for _, attributes in tags.tags if any(key.startswith("on") for key in attributes)]
    assert not [link for link in tags.all("a") if "javascript" in (link["href"] or "")]
    assert b"{{7*7}}" in hostile
    assert b"\x00" not in hostile


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host:5000/#/runs/1", "http://host:5000/#/runs/1"),
        ("https://user:secret@host/x?a=1", "https://host/x?a=1"),
        ("javascript:alert(1)", None),
        ("JAVASCRIPT://%0aalert(1)", None),
        ("data:text/html,x", None),
        ("sqlite:///mlflow.db", None),
        ("//host/x", None),
        ("http://", None),
        ("http://[broken", None),
        (None, None),
    ],
)
def test_only_web_addresses_become_links(url: str | None, shown: str | None) -> None:
    assert web_url(url) == shown


def test_passwords_are_not_shown() -> None:
    text = render(made_up.brief(mlflow=MLflowHint("postgresql://me:secret@db/mlflow", "e"))).decode()
    assert "secret" not in text
    assert "postgresql://db/mlflow" in text


def test_gallery_pictures_are_shrunk_kept_or_excused() -> None:
    small, buffer = made_up.picture(1, 96), io.BytesIO()
    Image.new("RGBA", (900, 500)).save(buffer, "PNG")
    pictures = [small, made_up.picture(2, 1000), buffer.getvalue(), b"<svg onload=alert(1)>", small[:200]]
    base = made_up.gallery(1)[0]
    items = [dataclasses.replace(base, image_id=i, jpeg=data) for i, data in enumerate(pictures)]
    text = render(made_up.brief(gallery=items)).decode()
    shown = [base64.b64decode(found) for found in re.findall(r"data:image/jpeg;base64,([^\"]+)", text)]
    assert shown[0] == small
    sizes = []
    for data in shown[:3]:
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == "JPEG"
            sizes.append(image.size)
    assert sizes == [(96, 96), (GALLERY_SIDE, GALLERY_SIDE), (GALLERY_SIDE, 178)]
    assert text.count("image cannot be shown") >= 1
    assert "<svg onload" not in text


def test_absent_parts_leave_no_section_behind() -> None:
    table = made_up.label_table(["1", "2", "3"])
    table.loc[0, "f1"] = float("nan")
    rows = [LeaderboardRow("only", "base model", seconds=3725.0)]
    text = render(made_up.brief(leaderboard=rows, per_label=table, blend_weights={}, notes=[])).decode()
    for anchor in ("#training", "#thresholds", "#blend"):
        assert anchor not in text
    assert "No run was recorded." in text
    assert "1 h 02 m" in text
    assert ">Group<" not in text
