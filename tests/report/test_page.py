"""The page in headless Chromium, on a desk and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import Browser, browser
from labelstack.report.html import write_report
from report import made_up

SCREENS = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "index.html"
    write_report(path, made_up.content())
    return path.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_page_fits_the_screen(window: Browser, url: str, screen: str, scheme: str, tmp_path: Path) -> None:
    window.viewport(*SCREENS[screen], phone=screen == "phone")
    window.colour_scheme(scheme)
    window.requests()
    window.open(url, wait_for="#gallery .item", until="[...document.images].every(image => image.complete)")

    assert window.evaluate("innerWidth") == SCREENS[screen][0]
    assert window.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert window.count("#gallery .item img") >= 24
    assert window.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert window.console_errors() == []
    assert window.requests() == [url]
    dark = "getComputedStyle(document.body).backgroundColor === 'rgb(23, 26, 30)'"
    assert window.evaluate(dark) == (scheme == "dark")
    assert window.screenshot(tmp_path / f"{screen}-{scheme}.png", full_page=True).stat().st_size > 50_000


def test_whole_leaderboard_is_seen_on_a_desktop(window: Browser, url: str) -> None:
    window.viewport(*SCREENS["desktop"])
    window.open(url)
    assert window.evaluate("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('#leaderboard .scroll'))")


def test_columns_sort_by_click_and_by_key(window: Browser, url: str) -> None:
    window.viewport(*SCREENS["desktop"])
    window.open(url)
    names = "#leaderboard tbody th"
    by_score = ["blend", "cnn", "xgboost", "small_resnet", "mobilenet_v2", "small_cnn"]
    assert window.texts(names) == by_score

    heading = window.find("#leaderboard th[data-column='0'] button")
    heading.click()
    assert window.texts(names) == sorted(by_score)
    heading.send_keys("\n")
    assert window.texts(names) == sorted(by_score, reverse=True)
    assert window.evaluate("document.querySelectorAll('#leaderboard th[aria-sort]').length") == 1

    window.find("#leaderboard th[data-column='17'] button").click()  # weight: the blend has none and stays last
    assert window.texts(names)[0] == "cnn"
    assert window.texts(names)[-1] == "blend"
    window.find("#leaderboard th[data-column='17'] button").click()
    assert window.texts(names)[0] == "small_cnn"
    assert window.texts(names)[-1] == "blend"


def test_labels_are_filtered_by_label_and_by_group(window: Browser, url: str) -> None:
    window.viewport(*SCREENS["phone"], phone=True)
    window.open(url)
    field = window.find("#filter")
    assert window.text("#filter-count") == "44 of 44 labels"
    field.send_keys("SLEEVE")
    assert window.text("#filter-count") == "4 of 44 labels"
    assert sorted(window.texts("#label-table tbody th")) == sorted(made_up.GROUPS["sleeve"])
    field.clear()
    field.send_keys("no such label")
    assert window.texts("#label-table tbody th") == []


def test_keyboard_focus_is_visible_everywhere(window: Browser, url: str) -> None:
    window.viewport(*SCREENS["desktop"])
    window.open(url)
    body = window.find("body")
    seen = set()
    for _ in range(40):
        body.send_keys("\ue004")  # Tab
        body = window.driver.switch_to.active_element
        seen.add(body.tag_name)
        assert window.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert {"a", "button", "input"} <= seen


def test_marks_do_not_rely_on_colour(window: Browser, url: str) -> None:
    window.open(url)
    styles = {
        verdict: window.evaluate(f"getComputedStyle(document.querySelector('.item .{verdict}')).borderTopStyle")
        for verdict in ("hit", "missed", "wrong")
    }
    assert styles == {"hit": "solid", "missed": "dashed", "wrong": "dotted"}
    for verdict, mark in (("hit", "✓"), ("missed", "○"), ("wrong", "✗")):
        chip = str(window.evaluate(f"document.querySelector('.item .{verdict}').textContent"))
        assert chip.startswith(f"{mark}{verdict}: ")


def test_hostile_names_run_nothing_and_break_nothing(window: Browser, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    write_report(path, made_up.hostile())
    window.viewport(*SCREENS["phone"], phone=True)
    window.requests()
    window.open(path.as_uri(), until="[...document.images].every(image => image.complete)")
    assert window.driver.title != "owned"
    assert window.count("script") == 1
    assert window.text("h1").startswith("</script><script>")
    # A phone's viewport grows with what overflows it, so its width is asked too.
    assert window.evaluate("[document.scrollingElement.scrollWidth, innerWidth]") == [390, 390]
    assert window.console_errors() == []
    assert window.requests() == [path.as_uri()]


def test_policy_stops_scripts_that_are_not_ours(window: Browser, url: str) -> None:
    window.open(url)
    window.driver.execute_script(
        "const s = document.createElement('script'); s.textContent = 'document.title = 1'; document.body.append(s);"
    )
    assert window.driver.title == "labelstack: generated garments"
    assert any("Content Security Policy" in error for error in window.console_errors())


def test_page_reads_without_script(window: Browser, url: str) -> None:
    window.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        window.driver.get(url)
        assert not window.find(".filter").is_displayed()
        assert len(window.driver.find_elements("css selector", "#label-table tbody tr")) == 44
        assert window.driver.find_elements("css selector", "thead button") == []
    finally:
        window.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_browser_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RuntimeError, match="need Chromium"), browser():
        pass


OVERLAPS = """(() => {
  const boxes = [...document.querySelectorAll("#regions .item, #regions .scroll, #regions h3, #regions p.lead")].map(
    (e) => e.getBoundingClientRect());
  return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(
    (b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)).length;
})()"""
OUTSIDE = """[...document.querySelectorAll("#regions .item, #regions .item *")].filter(
  (e) => e.getBoundingClientRect().right > innerWidth + 1
    || (e.clientWidth && e.scrollWidth > e.clientWidth + 1)).length"""
CUT = (
    "[...document.querySelectorAll('#regions th')].filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.innerText)"
)


@pytest.mark.parametrize("screen", SCREENS)
def test_regions_stand_beside_their_truth_and_nothing_overlaps(window: Browser, screen: str, tmp_path: Path) -> None:
    file = tmp_path / "index.html"
    write_report(file, made_up.brief(regions=made_up.regions()))
    before = window.console_errors()  # of pages that the window has shown
    window.viewport(*SCREENS[screen], phone=screen == "phone")
    window.colour_scheme("light")
    window.open(file.as_uri(), wait_for="#regions .pairs", until="[...document.images].every(image => image.complete)")
    window.screenshot(tmp_path / f"regions-{screen}.png", full_page=True)

    assert window.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert window.evaluate(OVERLAPS) == 0
    assert window.evaluate(OUTSIDE) == 0
    assert window.evaluate(CUT) == []
    assert window.texts("#regions h3") == ["IoU of each class", "Photos, best to worst", "Worst photos"]
    assert window.texts("nav a[href='#regions']") == ["Regions"]
    assert window.count("#regions .class-iou tbody tr") == len(made_up.CLASSES) + 1
    assert window.count("#regions .class-iou thead th") == 4  # a name; train, validation and withheld test photos
    assert window.evaluate("[...document.querySelectorAll('#regions img')].every(image => image.naturalWidth > 0)")
    of_each = "pair => [...pair.querySelectorAll('img')].map(image => image.alt)"
    pairs = window.evaluate(f"[...document.querySelectorAll('#regions .pair')].map({of_each})")
    assert len(pairs) == 12 + 6
    names = [f"{seed:032x}.jpg" for seed in range(12)]
    assert pairs[:12] == [[f"True regions of {name}", f"Predicted regions of {name}"] for name in names]
    assert pairs[12:] == pairs[11:5:-1]
    level = "[...document.querySelectorAll('#regions .pair')].every(p => new Set([...p.querySelectorAll('img')].map("
    assert window.evaluate(level + "i => i.getBoundingClientRect().top)).size === 1)")
    assert window.console_errors() == before
