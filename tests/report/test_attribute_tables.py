"""Label groups in the report: what is counted, drawn and shown."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from labelstack.report.attribute_tables import Attribute, Mistake, cropped
from labelstack.report.figures import DARK, LIGHT, figure_svg
from labelstack.report.html import render
from labelstack.report.value_confusion import confusion
from labelstack.stages import attribute_pages
from labelstack.stages.rows import Rows
from labelstack.support.box import Box
from report import made_up

LABELS = pd.DataFrame({"name": ["a::x", "a::y", "b::u", "b::v", "b::$w$"], "group": ["a", "a", "b", "b", "b"]})


def rows() -> Rows:
    true = [0, 0, 1, 2, 3, 4]
    known = np.array(["a", "a", "a", "b", "b", "b"])
    maybe = np.zeros((6, 5), bool)
    maybe[1, 1] = maybe[4, 2] = True
    ids = np.arange(10, 16)
    return Rows("validation", ids, ids, np.eye(5, dtype=bool)[true], known, maybe=maybe)


def test_scores_confusions_and_mistakes_are_within_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six rows counted by hand; a large probability of another group's label says nothing."""
    P = np.array(
        [
            [0.4, 0.1, 0.9, 0, 0],  # x, right at 0.8
            [0.1, 0.3, 0, 0, 0],  # x, given y, which may be: 0.75
            [0.2, 0.3, 0, 0, 0],  # y, right at 0.6
            [0, 0, 0.1, 0.3, 0.1],  # u, given v at 0.6
            [0, 0, 0.1, 0.4, 0],  # v, right at 0.8, u may be
            [0.9, 0, 0.7, 0.1, 0.2],  # w, given u at 0.7
        ],
        np.float32,
    )
    asked: list[list[int]] = []
    monkeypatch.setattr(
        attribute_pages, "images_by_id", lambda _, ids: asked.append(ids.tolist()) or {int(i): b"j" for i in ids}
    )
    a, b = attribute_pages.attributes(rows(), P, LABELS, {13: "thirteen"})
    assert (a.name, list(a.values), a.rows) == ("a", ["x", "y"], 3)
    assert a.accuracy == pytest.approx(2 / 3)
    assert a.average_precision == 1  # the m row counts neither way
    assert (a.n_maybe, a.maybe_accuracy) == (1, 0)
    assert a.confusion.tolist() == [[1, 1], [0, 1]]
    assert b.confusion.tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert (b.n_maybe, b.maybe_accuracy) == (1, 1)
    said = [(one.called, one.true, one.given) for one in b.mistakes]
    assert said == [("#15", "$w$", "u"), ("thirteen", "u", "v")]
    assert [one.probability for one in b.mistakes] == pytest.approx([0.7, 0.6])
    assert asked == [[11], [15, 13]]


def test_other_data_sets_have_none() -> None:
    plain = Rows("validation", np.arange(2), np.arange(2), np.eye(2, dtype=bool))
    assert attribute_pages.attributes(plain, np.ones((2, 2), np.float32), LABELS, {}) == []


def made(name: str = "neck") -> Attribute:
    mistakes = [
        Mistake("one.jpg", made_up.picture(1), "turtle", "<b>ruffle</b>", 0.9),
        Mistake("two", b"no", "x", "y", 0.8),
    ]
    values = ["turtle", "<b>ruffle</b>", "$a_b$"]
    return Attribute(name, values, 9, 0.75, 0.9, 2, None, np.array([[3, 1, 0], [0, 0, 0], [1, 0, 4]]), mistakes)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_the_confusions_are_drawn_with_hostile_names(theme) -> None:
    svg = figure_svg(confusion(made(), theme=theme))
    assert b"<svg" in svg
    assert b"<b>ruffle" not in svg


def test_the_page_shows_them_and_nothing_without() -> None:
    jpeg = made_up.picture(3, side=200)
    seen = cropped("closer", "<i>photo", jpeg, Box(0.25, 0.1, 0.75, 0.6))
    text = render(made_up.brief(attributes=[made(), made("<script>")], crops=[seen])).decode()
    assert 'id="attributes"' in text
    assert 'id="crops"' in text
    assert "&lt;b&gt;ruffle&lt;/b&gt;" in text
    assert "<b>ruffle" not in text
    assert "<i>photo" not in text
    assert "image cannot be shown" in text
    without = render(made_up.brief()).decode()
    assert 'id="attributes"' not in without
    assert 'id="crops"' not in without


def test_a_crop_is_what_the_box_holds_and_the_photo_has_its_line() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (200, 100), "white").save(buffer, "JPEG", quality=95)
    seen = cropped("closer", "a", buffer.getvalue(), Box(0.25, 0.1, 0.75, 0.6))
    with Image.open(io.BytesIO(seen.crop)) as part, Image.open(io.BytesIO(seen.photo)) as photo:
        assert part.size == (100, 50)
        assert photo.size == (200, 100)
        corner, middle = photo.getpixel((50, 30)), photo.getpixel((100, 35))
    assert corner[2] < 120  # the line
    assert min(middle) > 230


def test_heat_lies_where_the_map_has_it_and_is_shown_first() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (200, 100), "black").save(buffer, "JPEG", quality=95)
    heat = np.zeros((4, 8), np.uint8)
    heat[1, 6] = 255
    seen = cropped("closer", "a", buffer.getvalue(), Box(0.25, 0.1, 0.75, 0.6), heat)
    assert seen.heat is not None
    with Image.open(io.BytesIO(seen.heat)) as picture:
        pixels = np.asarray(picture.convert("L")).astype(int)
    assert picture.size == (200, 100)
    hot = np.unravel_index(pixels.argmax(), pixels.shape)
    assert abs(hot[0] - 37) < 10
    assert abs(hot[1] - 162) < 10
    assert pixels[80:, :100].max() < 20
    text = render(made_up.brief(crops=[seen])).decode()
    first, second = (text.index(f'alt="{what}, a"') for what in ("Where the first network looks", "Photo with its box"))
    assert first < second
    without = cropped("closer", "a", buffer.getvalue(), Box(0.25, 0.1, 0.75, 0.6))
    assert 'alt="Where the first network looks' not in render(made_up.brief(crops=[without])).decode()
