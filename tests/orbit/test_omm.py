"""Elements from an orbit mean-elements message: the same path as from element lines, and one line for what is wrong."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import pytest
import shipped

from pipeline.config import BadInput, dump_yaml, load, load_file
from pipeline.config.mission import Orbit
from pipeline.orbit import track

# What a catalogue writes for the element lines of configs/orbits/starcloud-1.yaml.
ELEMENTS: dict[str, Any] = {
    "OBJECT_NAME": "STARCLOUD-1",
    "OBJECT_ID": "2025-248L",
    "EPOCH": "2026-07-26T03:50:49.227072",
    "MEAN_MOTION": 15.2165207,
    "ECCENTRICITY": 0.0006321,
    "INCLINATION": 45.3997,
    "RA_OF_ASC_NODE": 271.0639,
    "ARG_OF_PERICENTER": 268.115,
    "MEAN_ANOMALY": 91.9012,
    "EPHEMERIS_TYPE": 0,
    "CLASSIFICATION_TYPE": "U",
    "NORAD_CAT_ID": 66303,
    "ELEMENT_SET_NO": 999,
    "REV_AT_EPOCH": 4047,
    "BSTAR": 0.00022976,
    "MEAN_MOTION_DOT": 5.005e-5,
    "MEAN_MOTION_DDOT": 0,
}
METADATA = {"CENTER_NAME": "EARTH", "REF_FRAME": "TEME", "TIME_SYSTEM": "UTC", "MEAN_ELEMENT_THEORY": "SGP4"}
WHOLE = ELEMENTS | METADATA
DAY_S = 86400.0


def as_json(*satellites: dict[str, Any]) -> str:
    return json.dumps(satellites)


def as_csv(*satellites: dict[str, Any]) -> str:
    rows = [satellites[0].keys(), *(each.values() for each in satellites)]
    return "\r\n".join(",".join(map(str, row)) for row in rows) + "\r\n"


def as_kvn(*satellites: dict[str, Any]) -> str:
    head = "CCSDS_OMM_VERS = 2.0\nCREATION_DATE  = \nORIGINATOR     = \nCOMMENT written = by hand\n"
    units = {"MEAN_MOTION": " [rev/day]", "INCLINATION": "[deg]"}
    return "\n".join(
        head + "".join(f"{key:<18} = {value}{units.get(key, '')}\n" for key, value in each.items())
        for each in satellites
    )


def as_xml(*satellites: dict[str, Any]) -> str:
    def tags(values: dict[str, Any]) -> str:
        return "".join(f"<{key}>{escape(str(value))}</{key}>" for key, value in values.items())

    def omm(each: dict[str, Any]) -> str:
        metadata = {key: each[key] for key in ("OBJECT_NAME", "OBJECT_ID", *METADATA) if key in each}
        of_tle = ("EPHEMERIS_TYPE", "NORAD_CAT_ID", "BSTAR")
        parameters = {key: each[key] for key in of_tle if key in each}
        mean = {key: value for key, value in each.items() if key not in metadata | parameters}
        return (
            '<omm id="CCSDS_OMM_VERS" version="2.0"><header><CREATION_DATE/></header><body><segment>'
            f"<metadata>{tags(metadata)}</metadata><data><meanElements>{tags(mean)}</meanElements>"
            f"<tleParameters>{tags(parameters)}</tleParameters></data></segment></body></omm>"
        )

    return f'<?xml version="1.0" encoding="UTF-8"?>\n<ndm>{"".join(map(omm, satellites))}</ndm>'


FORMS = {"json": as_json, "csv": as_csv, "xml": as_xml, "kvn": as_kvn}


@pytest.mark.parametrize("form", FORMS)
def test_a_message_and_element_lines_give_the_same_path(form: str, tmp_path: Path) -> None:
    written = tmp_path / "elements"
    written.write_text(FORMS[form](WHOLE), encoding="utf-8-sig" if form == "csv" else "utf-8")
    lines, message = track(shipped.orbit("starcloud-1")), track(Orbit(kind="omm", omm=str(written)))
    assert message.period_s == lines.period_s
    time_s = np.arange(0.0, 7.0 * DAY_S, 60.0)
    np.testing.assert_allclose(message.positions_km(time_s), lines.positions_km(time_s), atol=1e-6)


def test_a_drag_term_that_differs_gives_another_path() -> None:
    """The control of the test above."""
    there, here = (
        track(Orbit(kind="omm", omm=WHOLE | {"BSTAR": bstar})).positions_km(np.array([7.0 * DAY_S]))
        for bstar in (0.00022976, 0.00022977)
    )
    assert np.abs(there - here).max() > 1e-4


def test_catalogues_write_numbers_as_text_and_many_keywords_that_sgp4_does_not_need() -> None:
    """As Space-Track does; catalogue numbers of nine digits have no place in element lines."""
    more = {"CCSDS_OMM_VERS": "3.0", "COMMENT": "GENERATED VIA SPACE-TRACK.ORG API", "DECAY_DATE": None, "GP_ID": "1"}
    text = {key: str(value) for key, value in WHOLE.items()} | more | {"NORAD_CAT_ID": "799500123"}
    path = track(Orbit(kind="omm", omm=text))
    np.testing.assert_array_equal(
        path.positions_km(np.zeros(1)), track(Orbit(kind="omm", omm=ELEMENTS)).positions_km(np.zeros(1))
    )


def test_a_path_is_relative_to_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "orbits").mkdir()
    (tmp_path / "orbits" / "elements.json").write_text(as_json(WHOLE))
    (tmp_path / "orbits" / "mine.yaml").write_text("name: mine\nkind: omm\nomm: elements.json\n")
    (tmp_path / "run.yaml").write_text("orbit: orbits/mine.yaml\n")
    (tmp_path / "inline.yaml").write_text("orbit:\n  kind: omm\n  omm: orbits/elements.json\n")
    named = load(["--config", str(tmp_path / "run.yaml")]).orbit
    direct = load(["--config", str(tmp_path / "inline.yaml")]).orbit
    assert named.omm == direct.omm == Orbit(kind="omm", omm=WHOLE).omm
    assert named.omm is not None
    assert datetime(2026, 7, 26, 3, 50, 49, 227072) == named.omm.EPOCH


def test_both_forms_stand_on_the_command_line_and_a_saved_run_names_no_file(tmp_path: Path) -> None:
    (tmp_path / "elements.xml").write_text(as_xml(WHOLE))
    for given in (str(tmp_path / "elements.xml"), json.dumps(WHOLE)):
        config = load(["--orbit.kind", "omm", "--orbit.omm", given])
        (tmp_path / "config.yaml").write_text(dump_yaml(config))
        assert "elements.xml" not in dump_yaml(config)
        assert load_file(tmp_path / "config.yaml") == config


def without(*keys: str) -> dict[str, Any]:
    return {key: value for key, value in WHOLE.items() if key not in keys}


ENTITIES = '<?xml version="1.0"?><!DOCTYPE ndm [<!ENTITY a "15.2"><!ENTITY b "&a;&a;&a;">]><ndm/>'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (as_json(without("BSTAR", "EPOCH")), ["no EPOCH, BSTAR"]),
        (as_csv(WHOLE | {"BSTAR": ""}), ["no BSTAR"]),
        (as_csv(WHOLE | {"ECCENTRICITY": "0.0O1"}), ["orbit.omm.ECCENTRICITY: '0.0O1'", "valid number"]),
        (as_kvn(WHOLE | {"MEAN_MOTION": "NaN"}), ["orbit.omm.MEAN_MOTION: 'NaN'"]),
        ("[" + as_json(WHOLE | {"BSTAR": float("inf")})[1:], ["orbit.omm.BSTAR: inf"]),
        (as_json(WHOLE | {"INCLINATION": 181}), ["orbit.omm.INCLINATION: 181", "180"]),
        (as_json(WHOLE | {"EPOCH": 26207.16}), ["orbit.omm.EPOCH: 26207.16", "2026-07-26T03:50:49"]),
        (as_json(WHOLE | {"EPOCH": "2026-13-26T03:50:49"}), ["orbit.omm.EPOCH: '2026-13-26T03:50:49'"]),
        (as_xml(WHOLE | {"MEAN_ELEMENT_THEORY": "DSST"}), ["orbit.omm.MEAN_ELEMENT_THEORY: 'DSST'", "'SGP4'"]),
        (as_xml(WHOLE | {"REF_FRAME": "EME2000"}), ["orbit.omm.REF_FRAME: 'EME2000'", "'TEME'"]),
        (as_json(WHOLE | {"CENTER_NAME": "MOON"}), ["orbit.omm.CENTER_NAME: 'MOON'", "'EARTH'"]),
        (as_json(WHOLE | {"TIME_SYSTEM": "GPS"}), ["orbit.omm.TIME_SYSTEM: 'GPS'", "'UTC'"]),
        (as_json(WHOLE | {"EPHEMERIS_TYPE": 4}), ["orbit.omm.EPHEMERIS_TYPE: 4", "0 or 2"]),
        *[(form(WHOLE, WHOLE), ["2 satellites, first STARCLOUD-1, STARCLOUD-1"]) for form in FORMS.values()],
        (as_kvn(WHOLE) + as_kvn(WHOLE).partition("hand")[2], ["keyword twice"]),
        ("[]", ["no satellite"]),
        ("<ndm></ndm>", ["no satellite"]),
        ("<ndm><segment/></ndm>", ["elements.omm", "JSON, CSV, XML or KVN"]),
        (as_xml(WHOLE)[:-9], ["elements.omm", "JSON, CSV, XML or KVN"]),
        (as_json(WHOLE)[:-9], ["elements.omm", "JSON, CSV, XML or KVN"]),
        ("[" * 100_000, ["elements.omm"]),
        ("3", ["elements.omm", "no keyword EPOCH"]),
        ("[3]", ["elements.omm", "JSON object"]),
        ("No GP data found", ["elements.omm", "no keyword EPOCH"]),
        ("", ["elements.omm", "no keyword EPOCH"]),
        (ENTITIES, ["document type", "delete"]),
        ("x" * 1_000_001, ["larger than 1000 kB"]),
        (b"\xff\xfe<\x00", ["elements.omm", "utf-8"]),
        (None, ["elements.omm", "No such file"]),
    ],
)
def test_a_message_that_cannot_be_flown_is_refused_in_one_line(
    content: str | bytes | None, words: list[str], tmp_path: Path
) -> None:
    written = tmp_path / "elements.omm"
    if content is not None:
        written.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadInput) as caught:
        load(["--orbit.kind", "omm", "--orbit.omm", str(written)])
    message = str(caught.value)
    assert message.startswith("orbit.omm")
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--orbit.kind", "omm"], "orbit.omm: null"),
        (["--orbit.omm", json.dumps(WHOLE)], "orbit.kind: tle, but orbit.omm is given"),
        (["--orbit.kind", "omm", "--orbit.omm", json.dumps(without("MEAN_MOTION"))], "no MEAN_MOTION"),
        (["--orbit.kind", "omm", "--orbit.omm.BSTAR", "0"], "orbit.omm: "),
        (["--orbit.kind", "omm", "--orbit.omm", str(Path(__file__).parent)], "Is a directory"),
    ],
)
def test_a_key_that_does_not_fit_is_named(arguments: list[str], words: str) -> None:
    with pytest.raises(BadInput) as caught:
        load(arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_elements_that_have_no_orbit_are_refused() -> None:
    with pytest.raises(BadInput, match=r"orbit\.omm: .*copy the elements again"):
        track(Orbit(kind="omm", omm=WHOLE | {"MEAN_MOTION": 18}))
