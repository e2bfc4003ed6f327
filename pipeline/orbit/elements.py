"""From the configured orbit to an SGP4 record that starts at mission second 0."""

import math
import re
from calendar import isleap
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from jaxtyping import Float
from pydantic import ValidationError
from sgp4.api import SGP4_ERRORS, WGS72, Satrec, jday
from sgp4.earth_gravity import wgs72
from sgp4.omm import initialize

from pipeline.config.errors import BadInput
from pipeline.config.mission import Orbit
from pipeline.config.omm import Omm
from pipeline.orbit.sun import mean_longitude_deg

# WGS 84, equatorial. Its shadow is that of a sphere: behind the flattened Earth, without its air, an eclipse is
# shorter, by 0.1 to 0.4 min, and by up to 1.4 where it grazes.
EARTH_RADIUS_KM = 6378.137
SGP4_EPOCH_JD = 2433281.5  # 1949-12-31 00:00 UT, from which sgp4init counts its epoch
TROPICAL_YEAR_DAYS = 365.2422
# Elements are good for weeks. A mission may have to live with old ones for long; but so far from their epoch, a clock
# or a date is wrong. A circular orbit is nobody's measurement and does not age; the almanac of the Sun ends with 2050.
FAR_DAYS, FAR_DAYS_UNAGED = 1000.0, 10_000.0

# Columns of the numbers in a pair of element lines (CelesTrak, TLE format), and the keyword of `Omm` that says what
# each may be. SGP4's own reader takes a letter for the end of the number and flies another orbit without a word.
PLAIN, EXPONENT = r" *[-+]?\d*\.?\d+ *", r"[-+ ]?[ \d]\d{4}[-+ ]\d"
FIELDS = (
    (
        ("epoch", 18, 32, r"\d\d[ \d]{2}\d\.\d+ *", "EPOCH"),
        ("first derivative of mean motion", 33, 43, PLAIN, None),
        ("second derivative of mean motion", 44, 52, EXPONENT, None),
        ("drag term", 53, 61, EXPONENT, "BSTAR"),
        ("ephemeris type", 62, 63, r"[ \d]", "EPHEMERIS_TYPE"),
    ),
    (
        ("inclination", 8, 16, PLAIN, "INCLINATION"),
        ("right ascension", 17, 25, PLAIN, "RA_OF_ASC_NODE"),
        ("eccentricity", 26, 33, r"\d{7}", "ECCENTRICITY"),
        ("argument of perigee", 34, 42, PLAIN, "ARG_OF_PERICENTER"),
        ("mean anomaly", 43, 51, PLAIN, "MEAN_ANOMALY"),
        ("mean motion", 52, 63, PLAIN, "MEAN_MOTION"),
    ),
)


@dataclass(frozen=True)
class Track:
    """A satellite's path. Mission second 0 is the Julian date `start_jd + start_fraction` (UTC)."""

    satrec: Satrec
    start_jd: float
    start_fraction: float
    ages: bool = True  # elements that were measured

    @property
    def period_s(self) -> float:
        """Time of one revolution at the mean motion of the elements [s]."""
        return 60.0 * 2.0 * math.pi / self.satrec.no_kozai

    def revolutions(self, time_s: float) -> float:
        """Revolutions flown since mission second 0; its integer part plus 1 is the orbit's number."""
        return time_s / self.period_s

    def julian(
        self, time_s: Float[np.ndarray, " time"]
    ) -> tuple[Float[np.ndarray, " time"], Float[np.ndarray, " time"]]:
        """Julian date (UTC) of each mission second, as whole and fraction."""
        return np.full(time_s.shape, self.start_jd), self.start_fraction + time_s / 86400.0

    def utc(self, time_s: float) -> datetime:
        unix = (self.start_jd - 2440587.5 + self.start_fraction) * 86400.0 + time_s
        return datetime.fromtimestamp(unix, UTC)

    def seconds(self, moment: datetime) -> float:
        """Mission time of a moment [s]; one without a zone is UTC."""
        return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - self.utc(0.0)).total_seconds()

    def positions_km(self, time_s: Float[np.ndarray, " time"]) -> Float[np.ndarray, "time xyz"]:
        """Positions in the satellite's own frame, TEME [km] (Vallado et al., AIAA 2006-6753).

        Raises:
            BadInput: where SGP4 has no answer, as for elements propagated past decay, or too far from their epoch.
        """
        whole, fraction = self.julian(time_s)
        errors, position, _ = self.satrec.sgp4_array(whole, fraction)
        off_days = np.abs(whole - self.satrec.jdsatepoch + fraction - self.satrec.jdsatepochF)
        far_days = FAR_DAYS if self.ages else FAR_DAYS_UNAGED
        bad = np.flatnonzero((errors != 0) | ~np.isfinite(position).all(axis=-1) | (off_days > far_days))
        if bad.size:
            when = self.utc(float(time_s[bad[0]])).isoformat(timespec="seconds")
            why = SGP4_ERRORS.get(int(errors[bad[0]]), "it is not a number")
            if off_days[bad[0]] > far_days:
                why = f"{off_days[bad[0]]:.0f} days from the epoch of the elements"
            advice = "set the clock, or orbit.start"
            if self.ages:
                advice = "set the clock or orbit.start near theirs, or use newer elements"
            raise BadInput(f"orbit: no position at {when}: {why}; {advice}")
        return position


def track(orbit: Orbit) -> Track:
    """The path that the configuration describes.

    Raises:
        BadInput: elements that cannot be read, naming the line and what was expected.
    """
    if orbit.kind == "tle":
        assert orbit.tle is not None
        satrec = _from_tle(*orbit.tle)
        start = (satrec.jdsatepoch, satrec.jdsatepochF)
    elif orbit.kind == "omm":
        assert orbit.omm is not None
        satrec = _from_omm(orbit.omm)
        start = (satrec.jdsatepoch, satrec.jdsatepochF)
    else:
        assert orbit.start is not None
        start = _julian(orbit.start)
        satrec = _circular(orbit, *start)
    if orbit.start is not None:
        start = _julian(orbit.start)
    return Track(satrec, *start, ages=orbit.kind in ("tle", "omm"))


def checksum(line: str) -> int:
    """The last digit of an element line: digits add up, a minus counts 1, modulo 10 (CelesTrak, TLE format)."""
    return sum(int(c) if c.isdigit() else c == "-" for c in line[:68]) % 10


def _from_tle(first: str, second: str) -> Satrec:
    for number, line in enumerate((first, second), 1):
        where = f"orbit.tle: line {number}"
        if len(line) != 69 or not line.isascii():
            raise BadInput(f"{where} has {len(line)} characters, a line of elements has 69: {line!r}")
        if line[:2] != f"{number} ":
            raise BadInput(f"{where} must begin with '{number} ': {line!r}")
        if line[68] != str(checksum(line)):
            raise BadInput(f"{where} ends with checksum {line[68]}, expected {checksum(line)}: copy the elements again")
        for name, begin, end, pattern, _ in FIELDS[number - 1]:
            if not re.fullmatch(pattern, line[begin:end]):
                raise BadInput(f"{where}, {name}: {line[begin:end]!r} is not a number: copy the elements again")
    if first[2:7] != second[2:7]:
        raise BadInput(
            f"orbit.tle: line 1 is of satellite {first[2:7]}, line 2 of {second[2:7]}: give one satellite's lines"
        )
    _require_ranges(first, second)
    try:
        satrec = Satrec.twoline2rv(first, second)
    except ValueError as error:
        raise BadInput(f"orbit.tle: {error}: copy the elements again") from error
    if satrec.error:
        raise BadInput(f"orbit.tle: {SGP4_ERRORS[satrec.error]}: copy the elements again")
    return satrec


def _require_ranges(first: str, second: str) -> None:
    """The lines hold what a message may hold. A checksum does not tell: a 1 that became a minus has the same."""
    year, day = int(first[18:20]), float(first[20:32])
    year += 2000 if year < 57 else 1900
    if not 1.0 <= day < 366.0 + isleap(year):
        raise BadInput(f"orbit.tle: line 1, epoch: {first[18:32]!r} is no day of {year}: copy the elements again")
    values: dict[str, object] = {}
    written: dict[str, tuple[int, str, str]] = {}
    for number, line in enumerate((first, second), 1):
        for name, begin, end, pattern, keyword in FIELDS[number - 1]:
            if keyword:
                text = line[begin:end]
                written[keyword] = number, name, text
                values[keyword] = _exponent(text) if pattern == EXPONENT else text.strip() or "0"
    values["EPOCH"] = datetime(year, 1, 1) + timedelta(days=day - 1.0)
    values["ECCENTRICITY"] = f"0.{values['ECCENTRICITY']}"
    try:
        Omm(**values)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        number, name, text = written[str(wrong["loc"][0])]
        message = wrong["msg"].removeprefix("Value error, ")
        raise BadInput(
            f"orbit.tle: line {number}, {name}: {text!r}: {message[0].lower()}{message[1:]}: copy the elements again"
        ) from error


def _exponent(text: str) -> str:
    """` 22976-3`, which stands for 0.22976e-3, as other readers write it."""
    return f"{text[0].strip()}.{text[1:6].replace(' ', '0')}e{text[6:].replace(' ', '+')}"


def _from_omm(message: Omm) -> Satrec:
    satrec = Satrec()
    # What SGP4's reader wants beside the elements moves nothing; its catalogue numbers end at 339999.
    unused = {"CLASSIFICATION_TYPE": "U", "ELEMENT_SET_NO": 0, "REV_AT_EPOCH": 0}
    unused |= {"MEAN_MOTION_DOT": 0.0, "MEAN_MOTION_DDOT": 0.0, "NORAD_CAT_ID": 0}
    epoch = {"EPOCH": message.EPOCH.isoformat(timespec="microseconds")}
    initialize(satrec, message.model_dump() | unused | epoch)
    if satrec.error:
        raise BadInput(f"orbit.omm: {SGP4_ERRORS[satrec.error]}: copy the elements again")
    return satrec


def _circular(orbit: Orbit, jd: float, fraction: float) -> Satrec:
    """A circular orbit, without drag, that crosses its ascending node at mission second 0."""
    assert orbit.altitude_km is not None
    radius_km = EARTH_RADIUS_KM + orbit.altitude_km
    mean_motion = math.sqrt(wgs72.mu / radius_km**3)  # [rad/s]
    epoch = jd + fraction - SGP4_EPOCH_JD
    if orbit.kind == "sso":
        assert orbit.ltan_h is not None
        # Local mean time: the node leads the mean Sun, whose right ascension is its mean longitude, by 15° an hour
        # after noon.
        mean_sun_deg = float(mean_longitude_deg(np.array(jd + fraction)))
        node = math.radians((mean_sun_deg + 15.0 * (orbit.ltan_h - 12.0)) % 360.0)
        return _sun_synchronous(epoch, mean_motion, node)
    assert orbit.inclination_deg is not None
    return _record(epoch, mean_motion, math.radians(orbit.inclination_deg), math.radians(orbit.raan_deg))


def _sun_synchronous(epoch: float, mean_motion: float, node: float) -> Satrec:
    """The inclination at which Earth's oblateness turns the node once a year: its rate goes nearly as cos i."""
    wanted = 2.0 * math.pi / (TROPICAL_YEAR_DAYS * 1440.0)  # [rad/min]
    satrec = _record(epoch, mean_motion, math.radians(98.0), node)
    for _ in range(5):
        satrec = _record(epoch, mean_motion, math.acos(math.cos(satrec.inclo) * wanted / satrec.nodedot), node)
    return satrec


def _record(epoch: float, mean_motion: float, inclination: float, node: float) -> Satrec:
    """Of a circular orbit; `epoch` in days since that of SGP4, `mean_motion` in rad/s, angles in rad."""
    satrec = Satrec()
    # satellite number, epoch; drag and its derivatives, eccentricity, argument of perigee: 0; mean anomaly: 0
    satrec.sgp4init(WGS72, "i", 0, epoch, 0.0, 0.0, 0.0, 0.0, 0.0, inclination, 0.0, mean_motion * 60.0, node)
    return satrec


def _julian(moment: datetime) -> tuple[float, float]:
    """Julian date of a moment; one without a zone is UTC."""
    utc = moment.astimezone(UTC) if moment.tzinfo else moment
    return jday(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second + utc.microsecond / 1e6)
