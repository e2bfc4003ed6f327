"""One satellite's elements as an orbit mean-elements message (CCSDS 502.0-B), as CelesTrak and Space-Track write it."""

import csv
import io
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from xml.etree.ElementTree import ParseError

from pydantic import Field, field_validator, model_validator
from sgp4.omm import parse_xml

from pipeline.config.base import Section
from pipeline.config.errors import BadInput

LARGEST_BYTES = 1_000_000  # a message of one satellite is a few kB
WRITTEN = "a mean-elements message in JSON, CSV, XML or KVN, as catalogues write them"


class Omm(Section):
    """The keywords that SGP4 asks for, in the units of the standard, and those that name the satellite.

    A message may carry many more; they are dropped. Given a path instead of a mapping, the file is read, so that a
    configuration that was validated names no other file.
    """

    OBJECT_NAME: str = Field("", description="Name of the satellite")
    OBJECT_ID: str = Field("", description="International designator")
    NORAD_CAT_ID: int = Field(0, ge=0, description="Catalogue number")
    CENTER_NAME: Literal["EARTH"] = Field("EARTH", description="Body that is orbited")
    REF_FRAME: Literal["TEME"] = Field("TEME", description="Frame of the elements")
    TIME_SYSTEM: Literal["UTC"] = Field("UTC", description="Time system of the epoch")
    MEAN_ELEMENT_THEORY: Literal["SGP4", "SGP/SGP4"] = Field("SGP4", description="Theory that the elements belong to")
    EPHEMERIS_TYPE: int = Field(0, description="0 or 2: SGP4; 4 is SGP4-XP, which is another theory")
    EPOCH: datetime = Field(description="Epoch [UTC]")
    MEAN_MOTION: float = Field(gt=0, le=18, description="Mean motion [rev/day]")
    ECCENTRICITY: float = Field(ge=0, lt=1, description="Eccentricity")
    INCLINATION: float = Field(ge=0, le=180, description="Inclination [deg]")
    RA_OF_ASC_NODE: float = Field(ge=0, le=360, description="Right ascension of the ascending node [deg]")
    ARG_OF_PERICENTER: float = Field(ge=0, le=360, description="Argument of pericentre [deg]")
    MEAN_ANOMALY: float = Field(ge=0, le=360, description="Mean anomaly [deg]")
    BSTAR: float = Field(ge=-1, le=1, description="Drag term [1/Earth radii]")

    @model_validator(mode="before")
    @classmethod
    def _message(cls, given: Any) -> Any:
        """The mapping of known keywords, out of a file where a path was given."""
        if isinstance(given, (str, Path)):
            where, given = f"orbit.omm: {given}", read(Path(given))
        elif isinstance(given, Mapping):
            where = "orbit.omm"
        else:
            return given
        # Comma-separated files leave a field empty that is not known.
        known = {key: value for key, value in given.items() if key in cls.model_fields and value not in (None, "")}
        missing = [key for key, field in cls.model_fields.items() if field.is_required() and key not in known]
        if missing:
            raise BadInput(f"{where}: no {', '.join(missing)}; give {WRITTEN}")
        return known

    @field_validator("EPOCH", mode="before")
    @classmethod
    def _calendar_date(cls, given: Any) -> Any:
        """Text with a date and a time alone: pydantic would take a number for seconds since 1970."""
        if not isinstance(given, datetime) and not re.match(r"\d{4}-\d\d-\d\dT\d\d", str(given)):
            raise ValueError("must be a date and a time, as 2026-07-26T03:50:49.227072")
        return given

    @field_validator("EPOCH")
    @classmethod
    def _without_zone(cls, epoch: datetime) -> datetime:
        return epoch.astimezone(UTC).replace(tzinfo=None) if epoch.tzinfo else epoch

    @field_validator("EPHEMERIS_TYPE")
    @classmethod
    def _of_sgp4(cls, kind: int) -> int:
        if kind not in (0, 2):
            raise ValueError("must be 0 or 2, elements of SGP4; fetch those of the general perturbations catalogue")
        return kind


def read(path: Path) -> Mapping[str, Any]:
    """The keywords of the one satellite in a file, whichever of its four forms the message has.

    Raises:
        BadInput: the file cannot be read, is no such message, or holds no satellite or several.
    """
    where = f"orbit.omm: {path}"
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            raise BadInput(f"{where}: larger than {LARGEST_BYTES // 1000} kB; give a file of one satellite")
        satellites = _satellites(content.decode("utf-8-sig").strip())
    except OSError as error:
        raise BadInput(f"{where}: {error.strerror}; give the path of {WRITTEN}") from error
    except (ValueError, AttributeError, TypeError, RecursionError, ParseError, csv.Error) as error:
        raise BadInput(f"{where}: {' '.join(str(error).split())}; give {WRITTEN}") from error
    if len(satellites) != 1:
        names = ", ".join(str(each.get("OBJECT_NAME") or each.get("NORAD_CAT_ID")) for each in satellites[:3])
        held = f"{len(satellites)} satellites, first {names}" if satellites else "no satellite"
        raise BadInput(f"{where}: holds {held}; give a file of one")
    return satellites[0]


def _satellites(text: str) -> list[Mapping[str, Any]]:
    if text.startswith("<"):
        # A message needs no document type, and one can declare entities that grow without bound.
        if "<!DOCTYPE" in text:
            raise ValueError("declares a document type; delete the declaration")
        return list(parse_xml(io.StringIO(text)))
    if text.startswith(("{", "[")):
        found = json.loads(text)
        satellites = found if isinstance(found, list) else [found]
        if not all(isinstance(each, dict) for each in satellites):
            raise ValueError("must be one JSON object, or a list of one")
        return satellites
    if re.search(r"^[ \t]*EPOCH[ \t]*=", text, re.MULTILINE):
        return _key_value(text)
    satellites = list(csv.DictReader(io.StringIO(text)))
    if "EPOCH" not in text.partition("\n")[0]:
        raise ValueError("has no keyword EPOCH")
    return satellites


def _key_value(text: str) -> list[Mapping[str, Any]]:
    """Lines `KEYWORD = value [unit]`; each satellite begins with the version of the standard, or is the only one."""
    satellites: list[Mapping[str, Any]] = []
    for message in re.split(r"^(?=\s*CCSDS_OMM_VERS)", text, flags=re.MULTILINE):
        pairs = re.findall(r"^[ \t]*(\w+)[ \t]*=[ \t]*(.*?)[ \t]*(?:\[.*\])?[ \t]*$", message, re.MULTILINE)
        if len(dict(pairs)) < len(pairs):
            raise ValueError("gives a keyword twice")
        if pairs:
            satellites.append(dict(pairs))
    return satellites
