"""The page in a person's browser: it opens quickly, draws, asks nobody, and can be used on any screen."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser, chromium, needs_chromium
from ledger_lines import BEFORE, event, step
from long_ledger import write
from PIL import Image

from pipeline.ground.report import report
from pipeline.ground.report.serve import Server

pytestmark = needs_chromium

# Mean brightness of what is painted left of the plot, where the labels of its axis stand.
LABELS = """
const look = (node) => { for (const part of node.querySelectorAll("*")) {
  if (part.tagName === "CANVAS" && part.width) return part;
  const found = part.shadowRoot && look(part.shadowRoot); if (found) return found; } };
const canvas = look(document.getElementById("chart-learning"));
const pixels = canvas.getContext("2d").getImageData(0, 0, 50, canvas.height).data;
let sum = 0, count = 0;
for (let i = 0; i < pixels.length; i += 4) if (pixels[i + 3] > 200) { sum += pixels[i + 1]; count += 1; }
return sum / count;
"""
RANGE = "const r = Bokeh.documents.map((d) => d.get_model_by_name('mission')).find((m) => m); return [r.start, r.end];"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.fixture(scope="module")
def long_page(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of thirty days and half a million lines."""
    run = tmp_path_factory.mktemp("long")
    write(run / "ledger.jsonl")
    (run / "config.yaml").write_text((run_dir / "config.yaml").read_text())
    return report(run, run / "page.html", samples=0)


@pytest.fixture
def short(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    later = event("telemetry", 25.0, 20, charge=0.8, train_wh=7.0)
    lines = [*BEFORE, event("resume", 11.0, 10), step(20, 22.0, 4.2), later]
    (tmp_path / "run" / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "run"


def test_half_a_million_lines_open_and_are_drawn_within_three_seconds_and_five_megabytes(
    browser: Browser, long_page: Path
) -> None:
    assert long_page.stat().st_size < 5_000_000
    browser.look(1400)
    took = []
    for _ in range(3):  # of which the quickest is the page, and the others are what else this machine does
        began = time.monotonic()
        browser.open(long_page.as_uri())
        took.append(time.monotonic() - began)
    print(f"\nopened and drawn in {min(took):.2f} s; {long_page.stat().st_size / 1e6:.2f} MB")
    assert min(took) < 3.0
    assert len([painted for painted in browser.painted() if painted > 1000]) == 5


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_draws_without_a_complaint_or_a_request_and_fits_the_screen(
    width: int, dark: bool, browser: Browser, long_page: Path
) -> None:
    browser.look(width, dark=dark)
    browser.leave()
    browser.open(long_page.as_uri())
    assert len([painted for painted in browser.painted() if painted > 1000]) == 5
    assert browser.console() == []
    assert browser.requests() == [long_page.as_uri()]
    assert browser.run("return document.documentElement.scrollWidth") <= width
    brightness = browser.run(LABELS)
    assert brightness > 140 if dark else brightness < 120


def test_a_script_that_is_not_the_pages_own_does_not_run(browser: Browser, long_page: Path) -> None:
    """The policy is the control: the same page without it runs the script."""
    page = long_page.read_text()
    foreign = page.replace("</main>", "</main><script>window.ran = true</script>")
    start, end = page.index('<meta http-equiv="Content-Security-Policy"'), page.index('<meta name="color-scheme"')
    for name, text, ran in (("with", foreign, False), ("without", foreign.replace(page[start:end], ""), True)):
        path = long_page.with_name(f"{name}.html")
        path.write_text(text)
        browser.open(path.as_uri())
        assert bool(browser.run("return window.ran")) is ran
        assert bool(browser.console()) is not ran


def test_loss_can_be_set_against_steps_time_or_energy(browser: Browser, short: Path) -> None:
    browser.look(1400)
    browser.open(report(short, short / "page.html", samples=0).as_uri())
    xs = "const p = Bokeh.documents.map((d) => d.get_model_by_name('learning')).find((m) => m);"
    xs += "return [p.below[0].axis_label, Array.from(p.renderers[0].data_source.get('x'))];"
    seen = {}
    for value in ("step", "time", "wh"):
        browser.run(f"document.querySelector('#axis input[value={value}]').click()")
        seen[value] = browser.run(xs)
    assert seen["step"] == ["step", [10, 20]]
    assert seen["time"][0] == "mission time, hours"
    assert seen["time"][1] == pytest.approx([10 / 3600, 22 / 3600])
    assert seen["wh"][1] == pytest.approx([7.0 * 10 / 25, 7.0 * 22 / 25]), (
        "what was spent before the outage was taken back"
    )
    assert browser.console() == []


def test_the_mission_can_be_walked_through_by_keyboard(browser: Browser, long_page: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.look(1400)
    browser.run("sessionStorage.clear()")
    browser.open(long_page.as_uri())
    assert browser.run(RANGE) == pytest.approx([29.0, 30.0], abs=0.02), "a long mission begins with its last day"
    found = browser.driver.find_elements("css selector", "#zoom button")
    buttons = {button.get_attribute("data-zoom"): button for button in reversed(found)}
    seen = {}
    for name in ("all", "in", "in", "later", "out", "last", "earlier"):
        browser.run("document.querySelector('#zoom button').focus()")
        buttons[name].send_keys(Keys.ENTER)
        seen[name] = browser.run(RANGE)
    assert seen["all"] == pytest.approx([0.0, 30.0], abs=0.02)
    assert seen["in"] == pytest.approx([11.25, 18.75], abs=0.02)
    assert seen["later"] == pytest.approx([15.0, 22.5], abs=0.02)
    assert seen["out"] == pytest.approx([11.25, 26.25], abs=0.02)
    assert seen["last"] == pytest.approx([29.0, 30.0], abs=0.02)
    assert seen["earlier"] == pytest.approx([28.5, 29.5], abs=0.02)
    assert browser.run("return document.getElementById('shown').textContent") == "days 28.50 to 29.50"


def test_every_control_can_be_reached_by_tab_and_has_a_name(browser: Browser, short: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser.look(1400)
    browser.open(report(short, short / "page.html", samples=0).as_uri())
    reached = set()
    for _ in range(60):
        ActionChains(browser.driver).send_keys(Keys.TAB).perform()
        reached.add(browser.run("const e = document.activeElement; return e.dataset.zoom || e.name || e.className"))
    assert {"skip", "axis", "all", "in", "out", "earlier", "later", "scroll"} <= reached
    named = "(e) => e.ariaLabel || e.textContent.trim() || e.labels?.[0]?.textContent.trim()"
    assert browser.run(f"return [...document.querySelectorAll('button, input, a, summary')].every({named})")


def test_a_screen_that_turns_dark_repaints_the_charts(browser: Browser, short: Path) -> None:
    browser.look(1400)
    browser.open(report(short, short / "page.html", samples=0).as_uri())
    before = browser.run(LABELS)
    browser.look(1400, dark=True)
    deadline = time.monotonic() + 20
    while browser.run(LABELS) < 140 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert browser.run(LABELS) > 140 > 120 > before


def test_paper_gets_dark_ink_and_charts_that_fit_it(browser: Browser, short: Path) -> None:
    browser.look(1400, dark=True)
    browser.open(report(short, short / "page.html", samples=0).as_uri())
    browser.run("dispatchEvent(new Event('beforeprint'))")
    paper = browser.run("return getComputedStyle(document.documentElement).getPropertyValue('--paper')")
    assert paper.strip() == "#ffffff"
    images = browser.run("return [...document.querySelectorAll('.chart img')].map((i) => [i.alt.length, i.src])")
    assert len(images) == 3
    for words, source in images:
        assert words > 20
        kind, _, data = source.partition(",")
        assert kind == "data:image/png;base64"
        pixels = np.asarray(Image.open(BytesIO(base64.b64decode(data))).convert("RGBA")).astype(int)
        labels = pixels[:, :50][pixels[:, :50, 3] > 200]  # left of the plot
        assert labels[:, 1].mean() < 120
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run("return document.querySelectorAll('.chart img').length") == 0


def test_nothing_that_a_ledger_says_runs(browser: Browser, short: Path) -> None:
    evil = "</script><script>window.ran = 1</script><img src=x onerror='window.ran = 1'><!--"
    with (short / "ledger.jsonl").open("a") as file:
        file.write(json.dumps(event("mode", 30.0, 30, mode=evil, reason=evil)) + "\n")
        file.write(json.dumps(event(evil, 31.0, 30, why=evil)) + "\n")
        file.write(json.dumps(event("failed", 31.0, 30, reason=evil)) + "\n")
    browser.leave()
    browser.open(report(short, short / "page.html", samples=0).as_uri())
    assert browser.run("return window.ran ?? null") is None
    assert browser.console() == []


def test_a_live_page_follows_the_ledger_and_says_when_it_no_longer_does(browser: Browser, short: Path) -> None:
    def wait(script: str) -> Any:
        deadline = time.monotonic() + 40
        while not browser.run(script) and time.monotonic() < deadline:
            time.sleep(0.1)
        return browser.run(script)

    with Server(short, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        browser.look(1400)
        browser.leave()
        browser.open(server.address)
        browser.run("document.querySelector('#axis input[value=time]').click()")
        with (short / "ledger.jsonl").open("a") as file:
            file.write(json.dumps(step(30, 33.0, 3.9)) + "\n")
        assert wait("return document.querySelector('h1 + p').textContent.includes('step 30')")
        browser.drawn()
        assert browser.run("return document.querySelector('#axis input:checked').value") == "time", (
            "the choice survives"
        )
        assert {request.removeprefix(server.address) for request in browser.requests()} <= {"", "state"}
        server.shutdown()
        thread.join()
    assert wait("return document.getElementById('live').textContent.startsWith('No longer live')")
