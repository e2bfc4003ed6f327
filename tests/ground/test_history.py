"""What a ledger says, outages taken into account."""

import math
from pathlib import Path

import numpy as np
import pytest
from ledger_lines import BEFORE, event, step, telemetry

from pipeline.config.mission import Satellite
from pipeline.flight import governor
from pipeline.flight.recorded import recorded
from pipeline.ground import history
from pipeline.ground.history import History, Table
from pipeline.ground.report.material import keeps


def test_what_an_outage_took_back_is_there_once_as_it_was_in_the_end() -> None:
    """On a simulated clock: mission time goes back with the state."""
    again = [event("resume", 11.0, 10), step(20, 22.0, 4.2), step(30, 33.0, 3.6), telemetry(25.0, 0.8, 6.0)]
    made = History().read(BEFORE + again)
    assert made.steps["at"].tolist() == [10, 20, 30]
    assert made.steps["loss"].tolist() == [5.0, 4.2, 3.6]
    assert made.steps["launch"].tolist() == [1, 2, 2]
    assert made.telemetry["mission_s"].tolist() == [0.0, 0.0, 25.0]
    assert len(made.validations) == 0
    (gap,) = made.gaps
    assert (gap.lost_steps, gap.ending) == (20, None)
    assert [mode.name for mode in made.modes] == ["OFF", "TRAIN", "OFF"]


def test_curves_do_not_run_back_where_the_line_of_a_launch_is_damaged() -> None:
    """As in a ledger that came down with a gap."""
    again = [telemetry(12.0, 0.8, 3.0), step(20, 22.0, 4.2), telemetry(25.0, 0.8, 6.0), step(30, 33.0, 3.6)]
    made = History().read(BEFORE + again)
    assert made.steps["at"].tolist() == [10, 20, 30]
    assert made.steps["loss"].tolist() == [5.0, 4.2, 3.6]
    assert made.telemetry["mission_s"].tolist() == [0.0, 0.0, 12.0, 25.0]
    assert len(made.validations) == 0
    assert (made.gaps, made.lost_steps) == ([], 0), "of which nothing is known"


def test_on_a_real_clock_the_time_away_belongs_to_no_mode() -> None:
    away = [event("resume", 630.0, 10), event("mode", 640.0, 10, mode="TRAIN", reason="charge allows")]
    made = History().read([*BEFORE, *away, telemetry(700.0, 0.7, 8.0)])
    spans = [(start, end, mode.name) for start, end, mode in made.spans()]
    assert spans == [(0.0, 30.0, "TRAIN"), (30.0, 630.0, "DOWN"), (630.0, 640.0, "OFF"), (640.0, 700.0, "TRAIN")]
    assert len(made.telemetry) == 5  # nothing that was measured is taken back


def test_time_since_the_beginning_is_counted_from_the_first_launch_and_the_ledger_keeps_its_own() -> None:
    late = [line | {"mission_s": line["mission_s"] + 1e7} for line in [*BEFORE, event("resume", 630.0, 10)]]
    made = History().read([*late, event("clock_set", 1e7 + 700.0, 10, seconds=50.0)])
    since = made.since_beginning()
    assert (since.begin_s, since.end_s, since.length_s) == (0.0, 630.0, made.length_s)
    assert since.telemetry["mission_s"].tolist() == [0.0, 0.0, 20.0]
    assert [(start, end) for start, end, _ in since.spans()] == [(0.0, 30.0), (30.0, 630.0)]
    assert (since.notes[1].at.mission_s, since.gaps[0].after.mission_s) == (630.0, 630.0)
    assert (made.begin_s, made.end_s, made.set_s) == (1e7 + 50.0, 1e7 + 680.0, 50.0)


def test_a_launch_that_died_before_its_first_save_begins_again() -> None:
    made = History().read([*BEFORE, event("launch", 0.0, 0, lost_steps=30), step(10, 9.0, 5.5)])
    assert made.steps["at"].tolist() == [10]
    assert made.gaps[0].lost_steps == 30


def test_a_stop_on_notice_is_no_outage() -> None:
    made = History().read([*BEFORE, event("stopped", 31.0, 30, notice="SIGTERM"), event("resume", 31.0, 30)])
    assert (made.gaps[0].ending, made.gaps[0].lost_steps) == ("stopped", 0)


def test_a_run_that_found_corruption_goes_back_and_its_time_goes_on() -> None:
    found = event("corruption", 31.0, 10, reason="replay differs", found_by="replay")
    made = History().read([*BEFORE, found, step(20, 40.0, 4.4)])
    assert made.steps["at"].tolist() == [10, 20]
    assert made.steps["loss"].tolist() == [5.0, 4.4]
    assert len(made.telemetry) == 3
    assert (made.lost_steps, made.gaps) == (20, [])


def test_lost_steps_are_those_that_the_flight_counted_where_it_says() -> None:
    """Of ten steps one is written down: that it had come three further only the flight knows."""
    found = event("corruption", 31.0, 10, reason="changed at rest", lost_steps=23)
    made = History().read([*BEFORE, found, step(20, 40.0, 4.4), event("resume", 35.0, 10, lost_steps=38)])
    assert (made.lost_steps, made.gaps[0].lost_steps) == (38, 15)
    replayed = History().read([*BEFORE, event("corruption", 31.0, 30, reason="replay differs", lost_steps=3)])
    assert (replayed.lost_steps, len(replayed.steps)) == (3, 3), "the last line was of the sealed step itself"
    assert History().read([*BEFORE, event("resume", 11.0, 10), event("done", 40.0, 40, lost_steps=24)]).lost_steps == 24


def test_what_is_thinned_out_on_the_second_device_is_still_on_the_first() -> None:
    made = History().read([*BEFORE, event("deleted", 31.0, 30, checkpoint=10, place="mirror")])
    assert made.deleted == set()


@pytest.mark.parametrize("stopped", [False, True])
def test_what_a_launch_writes_while_it_restores_is_not_the_last_word_of_the_one_before(stopped: bool) -> None:
    end = [event("stopped", 31.0, 30, notice="SIGTERM")] if stopped else []
    restore = [event(kind, 31.0, 30, checkpoint=10, wall=9000.0) for kind in ("quarantined", "restored")]
    made = History().read([*BEFORE, *end, *restore, event("resume", 11.0, 10, wall=9001.0)])
    (gap,) = made.gaps
    assert gap.ending == ("stopped" if stopped else None)
    assert gap.after.wall - gap.before.wall == 9001.0 - (1031.0 if stopped else 1030.0)
    assert made.summary.quarantined == 1
    assert made.summary.wall_s == pytest.approx(31.0 if stopped else 30.0), "the time away is no time of work"


def test_energy_is_interpolated_between_readings_and_unknown_where_no_reading_has_it() -> None:
    made = History().read(BEFORE)
    np.testing.assert_allclose(made.train_wh(np.array([0.0, 10.0, 20.0])), [0.0, 2.5, 5.0])
    old = [{key: value for key, value in line.items() if key != "train_wh"} for line in BEFORE]
    assert np.isnan(History().read(old).train_wh(np.array([10.0]))).all()


def test_a_value_that_is_none_or_of_another_type_is_a_gap_in_its_curve() -> None:
    made = History().read([step(10, 1.0, 5.0) | {"loss": None, "grad_norm": "wide"}])
    assert math.isnan(made.steps["loss"][0])
    assert math.isnan(made.steps["grad_norm"][0])


def test_events_of_a_later_version_are_notes() -> None:
    made = History().read([*BEFORE, event("corruption", 31.0, 30, reason="bits")])
    assert [note.event["event"] for note in made.notes] == ["launch", "corruption"]


def test_notes_do_not_grow_without_bound_and_keep_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_MOST_NOTES", 100)
    made = History().read(event("scrubbed", float(i), i) for i in range(1000))
    assert len(made.notes) <= 100
    assert len(made.notes) + made.notes_left_out == 1000
    assert (made.notes[0].at.step, made.notes[-1].at.step) == (0, 999)


def test_the_watchdogs_word_is_that_of_the_flight() -> None:
    assert history.SAFE == governor.SAFE


def test_rows_are_taken_back_from_the_first_that_is_too_late() -> None:
    table = Table("at", "value")
    for at in (1.0, 2.0, 2.0, 3.0):
        table.append(at, 10 * at)
    table.cut(2.0)
    assert table["value"].tolist() == [10.0, 20.0, 20.0]
    table.cut(0.0)
    assert len(table) == 0
    assert table["value"].shape == (0,)


def test_a_reading_keeps_what_the_satellite_of_its_own_launch_had_to(run_dir: Path) -> None:
    first, second = (Satellite(battery={"capacity_wh": wh}).keeps for wh in (1000.0, 1500.0))
    launches = [event("launch", 0.0, 0, **first), telemetry(5.0, 0.9, 0.0), event("stopped", 10.0, 5)]
    again = [event("resume", 10.0, 5, **second), telemetry(10.0, 0.8, 1.0), event("resume", 20.0, 5)]
    made = History().read([*launches, *again, telemetry(30.0, 0.7, 2.0)])
    assert made.telemetry["floor_wh"].tolist()[:2] == [700.0, 1050.0]
    assert math.isnan(made.telemetry["floor_wh"][2]), "an earlier version did not say"
    config = recorded(run_dir)
    assert keeps(made, config)["capacity_wh"].tolist() == [1000.0, 1500.0, 1000.0], "as the configuration has it"
