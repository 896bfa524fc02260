"""Headless Chromium for tests: open a page, wait, look, and hear what the console says."""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


class Browser:
    """A thin hand on a Chromium window; ``driver`` is selenium's own."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self._console: list[dict[str, Any]] = []

    def viewport(self, width: int, height: int, *, phone: bool = False) -> None:
        """Emulate a screen of this size in CSS pixels; a phone has two device pixels to each."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def colour_scheme(self, scheme: str) -> None:
        """Emulate ``prefers-color-scheme``: "light" or "dark"."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, url: str, *, wait_for: str = "body", until: str = "true", timeout_s: float = 300) -> None:
        """Load ``url``, then wait for the CSS selector ``wait_for`` and the JavaScript condition ``until``."""
        self.driver.get(url)
        self.wait(f"document.querySelector({json.dumps(wait_for)}) && ({until})", timeout_s=timeout_s)

    def wait(self, condition: str, *, timeout_s: float = 300) -> None:
        """Wait until a JavaScript expression is true; ``AssertionError`` names it when the time is up."""
        end = time.monotonic() + timeout_s
        while not self.evaluate(f"Boolean({condition})"):
            if time.monotonic() > end:
                raise AssertionError(
                    f"{self.driver.current_url}: not true within {timeout_s:g} s: {condition}\n"
                    f"console: {self.console_errors()}\npage: {self.text()[:1000]}"
                )
            time.sleep(0.1)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        return self.driver.execute_script(f"return ({expression});")

    def text(self, selector: str = "body") -> str:
        """The rendered text of the first element that fits."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    def texts(self, selector: str) -> list[str]:
        """The rendered text of every visible element that fits."""
        script = f"[...document.querySelectorAll({json.dumps(selector)})].filter(e => e.getClientRects().length)"
        return list(self.evaluate(f"{script}.map(e => e.innerText)"))

    def count(self, selector: str) -> int:
        """How many elements fit."""
        return int(self.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length"))

    def find(self, selector: str) -> Any:
        """The first element that fits, as selenium gives it (click, send_keys)."""
        return self.driver.find_element("css selector", selector)

    def screenshot(self, path: Path, *, full_page: bool = False) -> Path:
        """Save what is seen, or the whole page, as PNG."""
        options: dict[str, Any] = {"format": "png"}
        if full_page:
            box = self.evaluate("(e => ({width: innerWidth, height: e.scrollHeight}))(document.scrollingElement)")
            options |= {"captureBeyondViewport": True, "clip": {"x": 0, "y": 0, "scale": 1, **box}}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.driver.execute_cdp_cmd("Page.captureScreenshot", options)["data"]))
        return path

    def console_errors(self) -> list[str]:
        """Everything the console called an error since the window opened."""
        self._console += self.driver.get_log("browser")
        return [entry["message"] for entry in self._console if entry["level"] == "SEVERE"]

    def requests(self) -> list[str]:
        """URLs asked for since the last call; data URLs and Chromium's own pages are left out."""
        events = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        urls = (event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent")
        return [url for url in urls if not url.startswith(("data:", "chrome:"))]


@contextmanager
def browser() -> Iterator[Browser]:
    """A fresh headless Chromium with a profile of its own; fails when Chromium or its driver is not installed."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if not chromium or not chromedriver:
        raise RuntimeError(
            "these tests need Chromium and its driver; on Debian: apt-get install chromium chromium-driver"
        )
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(executable_path=chromedriver))
        try:
            yield Browser(driver)
        finally:
            driver.quit()
