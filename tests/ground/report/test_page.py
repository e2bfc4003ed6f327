"""The document, before any browser: whole, inert, and honest about what it could not read."""

import json
import os
import re
import resource
import shutil
import time
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ledger_lines import BEFORE, event, step, telemetry
from limited import limited

from pipeline.config import BadInput, Config
from pipeline.ground.report import main, report
from pipeline.ground.report.words import utc
from pipeline.orbit import track

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)><!--"


class Outline(HTMLParser):
    """Elements, and text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def written(folder: Path, events: list[dict[str, Any]], **files: str) -> Path:
    """A run directory with such a ledger."""
    folder.mkdir()
    (folder / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in events))
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def outline(run: Path, out: Path) -> Outline:
    return Outline(report(run, out, samples=0).read_text())


def test_a_ledger_alone_makes_a_page(tmp_path: Path) -> None:
    """Config, plan and checkpoints have not come down."""
    page = outline(written(tmp_path / "run", BEFORE), tmp_path / "page.html")
    assert "run" in page.text
    assert "Cut short" in page.text
    assert "config.yaml is missing" in page.text
    assert [a["id"] for a in page.all("section")] == [
        *("glance", "learning", "mission", "plan", "checkpoints", "incidents")
    ]


def test_a_page_that_does_not_fit_leaves_the_earlier_one(tmp_path: Path) -> None:
    run, out = written(tmp_path / "run", BEFORE), tmp_path / "page.html"
    report(run, out, samples=0)
    before = out.read_bytes()
    refused = pytest.raises(BadInput, match=r"page\.html: cannot be written \(File too large\); name a file that can")
    with limited(resource.RLIMIT_FSIZE, 1000), refused:
        report(run, out, samples=0)
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "run"]


def test_ctrl_c_while_a_page_is_written_leaves_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    run = written(tmp_path / "run", BEFORE)
    monkeypatch.setattr("os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        report(run, tmp_path / "page.html", samples=0)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path: Path) -> None:
    run, link = written(tmp_path / "run", BEFORE), tmp_path / "link.html"
    link.symlink_to(tmp_path / "page.html")
    assert "Dayside" in outline(run, link).text
    assert link.is_symlink()
    device = tmp_path / "device"
    device.symlink_to("/dev/null")
    report(run, device, samples=0)
    assert device.is_char_device()
    assert device.is_symlink()


@pytest.mark.parametrize("events", [[], BEFORE[:1], BEFORE[:2], [BEFORE[3]], [telemetry(0.0, 1.0, 0.0)]])
def test_a_ledger_that_has_hardly_begun_makes_a_page(events: list[dict[str, Any]], tmp_path: Path) -> None:
    assert "Dayside" in outline(written(tmp_path / "run", events), tmp_path / "page.html").text


def test_the_page_is_one_file_that_may_ask_for_nothing(tmp_path: Path) -> None:
    page = outline(written(tmp_path / "run", BEFORE), tmp_path / "page.html")
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    for _, attributes in page.elements:
        for name in ("src", "href", "action"):
            address = attributes.get(name) or "#"
            assert address.startswith(("#", "data:")), address


def test_nothing_that_ledger_config_or_plan_say_becomes_markup(run_dir: Path, tmp_path: Path) -> None:
    harmless, evil = tmp_path / "harmless", tmp_path / "evil"
    lines = [
        event("mode", 30.0, 30, mode="OFF", reason="{}"),
        event("failed", 31.0, 30, reason="{}"),
        event("quarantined", 31.0, 30, checkpoint="{}", reason="{}"),
        event("{}", 32.0, 30, **{"{}": "{}"}),
        event("done", 33.0, 30, spent="{}", orbits="{}", eclipses="{}", train_wh="{}"),
        event("launch", 34.0, 0, device="{}"),
    ]
    outlines = []
    for folder, word in ((harmless, "word"), (evil, EVIL)):
        filled = json.loads(json.dumps([*BEFORE, *lines]).replace("{}", word))
        written(folder, filled, plan_json=json.dumps({"steps": word, word: 5.0}))
        config = (run_dir / "config.yaml").read_text()
        (folder / "config.yaml").write_text(config.replace("name: starcloud-1\n", f"name: {json.dumps(word)}\n"))
        outlines.append(outline(folder, tmp_path / f"{folder.name}.html"))
    assert [tag for tag, _ in outlines[0].elements] == [tag for tag, _ in outlines[1].elements]
    assert "alert(1)" in outlines[1].text, "it must be shown, as text"
    (charts,) = re.findall(
        r'<script type="application/json" id="charts">(.*?)</script>', (tmp_path / "evil.html").read_text()
    )
    assert "<" not in charts
    assert EVIL in json.dumps(json.loads(charts), ensure_ascii=False), "hover text carries the reason"


def test_damaged_lines_are_counted_aloud(tmp_path: Path) -> None:
    run = written(tmp_path / "run", BEFORE)
    with (run / "ledger.jsonl").open("a") as file:
        file.write('{"event": "step", "mis\n\x00\x00\n{"event": "sealed"')
    assert "3 lines damaged and passed over" in outline(run, tmp_path / "page.html").text


def test_the_parts_that_a_reader_without_eyes_needs_are_there(run_dir: Path, tmp_path: Path) -> None:
    run = written(tmp_path / "run", [*BEFORE, event("resume", 11.0, 10), step(20, 22.0, 4.1)])
    shutil.copy(run_dir / "config.yaml", run)
    page = outline(run, tmp_path / "page.html")
    assert page.all("html")[0]["lang"] == "en"
    assert page.text.strip()
    assert [len(page.all(tag)) for tag in ("title", "h1", "main", "nav", "header", "footer")] == [1] * 6
    labels = {a.get("id") for _, a in page.elements}
    assert all(a["aria-labelledby"] in labels for a in page.all("section"))
    charts = [a for a in page.all("div") if a.get("role") == "img"]
    assert len(charts) == 3
    assert all(len(a["aria-label"] or "") > 20 for a in charts)
    assert all(a.get("tabindex") == "0" and a.get("aria-label") for a in page.all("div") if a.get("class") == "scroll")
    assert all(a.get("scope") for a in page.all("th"))


def test_levels_of_headings_are_not_skipped(run_dir: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run_dir, tmp_path / "copy"))
    (copy / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in BEFORE))
    page = Outline(report(copy, tmp_path / "page.html", samples=8).read_text())
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_checkpoints_that_are_there_write_a_sample_each_and_damaged_ones_say_so(run_dir: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run_dir, tmp_path / "copy"))
    (copy / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in BEFORE))
    assert "Step 40" in Outline(report(copy, tmp_path / "page.html", samples=8).read_text()).text
    (copy / "checkpoints" / "20" / "SEAL").unlink()
    page = Outline(report(copy, tmp_path / "page.html", samples=8).read_text())
    assert "Step 40" in page.text
    assert "step 20: SEAL: missing" in page.text
    assert "Samples" not in Outline(report(copy, tmp_path / "page.html", samples=0).read_text()).text


def test_each_launch_is_judged_by_the_floor_and_the_limit_of_its_own_satellite(tmp_path: Path) -> None:
    """A larger battery later makes no false alarm, and a lower floor hides no real one."""

    def page(charge_wh: float, **later: float) -> str:
        keeps = {"capacity_wh": 1000.0, "floor_wh": 700.0, "limit_c": 60.0}
        reading = telemetry(10.0, charge_wh / 1000.0, 0.0), telemetry(30.0, 0.9, 0.0)
        lines = [event("launch", 0.0, 0, **keeps), reading[0], event("resume", 20.0, 0, **keeps | later), reading[1]]
        folder = tmp_path / f"{charge_wh:.0f}"
        return re.sub(r"\s+", " ", outline(written(folder, lines), tmp_path / "page.html").text)

    kept = page(709.0, capacity_wh=1200.0, floor_wh=840.0, limit_c=25.0)
    assert "Lowest charge70.9 %floor 70 % Hottest" in kept
    assert "limit 25 to 60 °C, by launchpassed: 30.0 °C where it was 25 °C" in kept
    assert "floor 10 to 70 %, by launchpassed: 65.0 % where it was 70 %" in page(650.0, floor_wh=100.0)


@pytest.mark.parametrize(
    ("clock", "said"), [("real", "Time is real; charge"), ("simulated", "not measured: the clock is simulated")]
)
def test_what_is_modelled_is_named_by_the_clock(clock: str, said: str, run_dir: Path, tmp_path: Path) -> None:
    config = (run_dir / "config.yaml").read_text()
    assert "clock: simulated" in config
    text = config.replace("clock: simulated", f"clock: {clock}")
    assert said in outline(written(tmp_path / "run", BEFORE, config_yaml=text), tmp_path / "page.html").text


def test_plan_and_actual_stand_beside_each_other(tmp_path: Path) -> None:
    lines = [*BEFORE, event("done", 40.0, 40, tokens=400, train_wh=90.0, eclipses=2)]
    plan = json.dumps(
        {"provenance": "modelled", "steps": 50, "train_wh": 100.0, "end_s": 45.0, "restarts": 1, "eclipses": 2}
    )
    text = outline(written(tmp_path / "run", lines, plan_json=plan), tmp_path / "page.html").text
    row = re.sub(r"\s+", " ", text[text.index("Steps50") : text.index("Tokens")])
    assert row.startswith("Steps504080.0 %")
    assert "90.0 %" in text


def test_a_run_that_began_long_after_second_0_is_told_from_its_beginning(run_dir: Path, tmp_path: Path) -> None:
    """On a real clock second 0 is the epoch of the elements."""
    began_s = 125 * 86400.0
    late = [line | {"mission_s": line["mission_s"] + began_s} for line in [*BEFORE, event("resume", 7200.0, 10)]]
    files = {"config_yaml": (run_dir / "config.yaml").read_text(), "plan_json": json.dumps({"end_s": began_s + 14400})}
    text = outline(written(tmp_path / "run", late, **files), tmp_path / "page.html").text
    began = utc(track(Config().orbit).utc(began_s).timestamp())
    assert text.count(f"mission time is counted from the first launch, {began} (mission second 10,800,000)") == 1
    assert "125 d" not in text
    assert "mission time, hours" in text
    assert "Last 3 hours" not in text
    row = re.sub(r"\s+", " ", text[text.index("Mission time at the end") :])
    assert row.startswith("Mission time at the end4 h2 h50.0 %")
    assert "counted from" not in outline(written(tmp_path / "soon", BEFORE), tmp_path / "page.html").text


def test_a_run_that_has_not_ended_shows_the_energy_of_its_last_reading(tmp_path: Path) -> None:
    """Live, cut short, or not all of it down."""
    plan = json.dumps({"train_wh": 100.0})
    text = outline(written(tmp_path / "run", BEFORE, plan_json=plan), tmp_path / "page.html").text
    text = re.sub(r"\s+", " ", text)
    assert re.search(r"Energy ?5 ?Wh for training", text)
    assert re.search(r"Energy for training, Wh ?100 ?5 ?5\.0 %", text)


def test_what_was_measured_in_flight_is_told_where_it_is_not_as_modelled(tmp_path: Path) -> None:
    heading = "Measured in flight, over what is modelled"
    # As of versions that measured less, and once without a number.
    looks = [
        {"harvest": 1.0004, "capacity": 1.0},
        {"capacity": 0.87, "rejection": 1},
        {"capacity": 0.9, "rejection": None},
    ]
    lines = [*BEFORE, *(event("plan", 31.0 + i, 30, planned_steps=50, **look) for i, look in enumerate(looks))]
    text = outline(written(tmp_path / "run", lines), tmp_path / "page.html").text
    told = re.sub(r"\s+", " ", text[text.index(heading) : text.index("What happened", text.index(heading))])
    assert told.startswith(f"{heading} NowLowestHighest Charge that the battery holds0.9000.8701.000 Checkpoints")
    as_modelled = [*BEFORE, event("plan", 31.0, 30, **looks[0])]
    assert heading not in outline(written(tmp_path / "new", as_modelled), tmp_path / "page.html").text


@pytest.mark.parametrize("plan", ["[" * 200_000, '{"steps": 1' + "0" * 400 + "}", '{"steps": 1' + "0" * 5000 + "}"])
def test_a_damaged_plan_is_passed_over(plan: str, tmp_path: Path) -> None:
    page = outline(written(tmp_path / "run", BEFORE, plan_json=plan), tmp_path / "page.html")
    assert "Cut short" in page.text


def test_a_name_that_is_no_text_stops_no_page(run_dir: Path, tmp_path: Path) -> None:
    run = written(tmp_path / "run", BEFORE)
    (run / "config.yaml").write_text((run_dir / "config.yaml").read_text() + 'run_dir: "x/\\ud800"\n')
    assert "Cut short" in outline(run, tmp_path / "page.html").text
    (run / "config.yaml").unlink()
    odd = run.rename(tmp_path / os.fsdecode(b"run-\xff"))
    assert "run-?" in outline(odd, tmp_path / "page.html").text


def test_without_a_ledger_or_a_folder_for_the_page_it_is_one_line(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no ledger\.jsonl"):
        report(run_dir, tmp_path / "page.html")
    with pytest.raises(BadInput, match="there is no folder"):
        report(written(tmp_path / "run", BEFORE), tmp_path / "absent" / "page.html")
    with pytest.raises(BadInput, match="--samples"):
        main([str(tmp_path / "run"), "--samples", "-1"])


def test_the_verb_names_the_page_after_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    run = written(tmp_path / "run", BEFORE)
    monkeypatch.chdir(tmp_path)
    assert main([str(run), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"report": "run.html", "bytes": (tmp_path / "run.html").stat().st_size}
    assert sorted(path.name for path in run.iterdir()) == ["ledger.jsonl"], "a run directory is not written to"


def test_the_time_that_it_was_made_is_told(tmp_path: Path) -> None:
    text = outline(written(tmp_path / "run", BEFORE), tmp_path / "page.html").text
    assert time.strftime("Made %Y-%m-%d %H:", time.gmtime()) in text
