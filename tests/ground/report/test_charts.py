"""What the charts show of time in which nobody looked."""

import math

import numpy as np
from ledger_lines import BEFORE, event, telemetry

from pipeline.ground.history import History
from pipeline.ground.report import charts


def test_time_without_power_is_neither_sunlight_nor_eclipse_and_no_line_leads_through_it() -> None:
    dark = [telemetry(time_s, 0.6, 7.0) | {"sunlit": 0.0} for time_s in (600.0, 660.0)]
    again = [event("resume", 6000.0, 10), telemetry(6060.0, 0.7, 8.0), telemetry(6120.0, 0.7, 8.0)]
    history = History().read([*BEFORE, *dark, *again])
    (off,) = [(start, end) for start, end, mode in history.spans() if mode.name == "DOWN"]
    assert off == (660.0, 6000.0)
    battery, _, strip = charts.mission(history, charts.Time(1.0, "seconds"), None).children
    (line,) = [each.data_source.data for each in battery.renderers if "charge_wh" in each.data_source.data]
    last = np.flatnonzero(line["time"] < off[1])[-1]
    assert (line["time"][last], line["time"][last + 1]) == (off[0], 6060.0)
    assert np.isnan(line["charge_wh"][last]), "the line ends there"
    (bars,) = [each.data_source.data for each in strip.renderers if "what" in each.data_source.data]
    sunlit = [
        (start, end)
        for start, end, row in zip(bars["start"], bars["end"], bars["row"], strict=True)
        if row == "sunlight"
    ]
    (shade,) = [each.data_source.data for each in battery.renderers if set(each.data_source.data) == {"start", "end"}]
    seen = sorted([*sunlit, *zip(shade["start"], shade["end"], strict=True)])
    assert all(end <= off[0] or start >= off[1] for start, end in seen)
    assert math.isclose(sum(end - start for start, end in seen), 660.0 + 60.0, rel_tol=0.1)
