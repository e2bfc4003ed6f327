"""Headless Chromium as a person's browser: what it drew, what its console says, what it asked the network for."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="Chromium is not installed: apt-get install chromium chromium-driver"
)
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars")
_FLAGS += ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage")

# Every canvas with something on it, through all shadow roots; and how many plots there are.
_CANVASES = """
const found = [];
const look = (node) => {
  for (const child of node.querySelectorAll("*")) {
    if (child.tagName === "CANVAS" && child.width * child.height > 0) {
      const pixels = child.getContext("2d").getImageData(0, 0, child.width, child.height).data;
      let painted = 0;
      for (let i = 3; i < pixels.length; i += 4) painted += pixels[i] > 0;
      found.push(painted);
    }
    if (child.shadowRoot) look(child.shadowRoot);
  }
};
look(document);
return found;
"""


class Browser:
    def __init__(self, driver: Any):
        self.driver = driver

    def look(self, width: int, height: int = 900, dark: bool = False) -> None:
        """The screen that the next page is opened on."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, address: str) -> None:
        """Opens a page and waits until its charts are drawn."""
        self.driver.get(address)
        self.drawn()

    def leave(self) -> None:
        """Goes to an empty page, and forgets what was said and asked for until now."""
        self.driver.get("about:blank")
        self.console()
        self.requests()

    def drawn(self) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        script = "return document.documentElement.dataset.drawn === 'yes'"
        WebDriverWait(self.driver, 60, poll_frequency=0.02).until(lambda driver: driver.execute_script(script))
        # Two frames later the canvases have been painted.
        self.driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()));"
        )

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def painted(self) -> list[int]:
        """Painted pixels of every canvas that has any size."""
        return self.run(_CANVASES)

    def console(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def requests(self) -> list[str]:
        """Addresses asked for since the last call, by anything."""
        entries = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [e["params"]["request"]["url"] for e in entries if e["method"] == "Network.requestWillBeSent"]

    def photograph(self, path: Path) -> None:
        """The whole page, from top to bottom."""
        width = self.run("return innerWidth")
        height = self.run("return document.documentElement.scrollHeight")
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        self.run("scrollTo(0, 0)")
        path.write_bytes(self.driver.get_screenshot_as_png())


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    driver.set_page_load_timeout(60)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
