"""Where the satellite flies and what it has to spend: orbit, satellite, GPU, clock."""

from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pipeline.config.base import Section
from pipeline.config.omm import Omm


class Orbit(Section):
    """One of: two-line elements, an orbit mean-elements message, a circular or a Sun-synchronous orbit."""

    name: str = Field("starcloud-1", description="Label")
    kind: Literal["tle", "omm", "circular", "sso"] = Field("tle", description="How the orbit is given")
    tle: tuple[str, str] | None = Field(None, description="The two lines of the elements (kind tle)")
    omm: Omm | None = Field(
        None,
        description="Orbit mean-elements message (kind omm): the path of a file in JSON, CSV, XML or KVN, relative to "
        "the file that names it, or its keywords as a mapping. The file's content is kept with the run",
    )
    altitude_km: float | None = Field(
        None, ge=200, le=2000, description="Height over the equatorial radius of 6378.137 km (kinds circular, sso) [km]"
    )
    inclination_deg: float | None = Field(None, ge=0, le=180, description="Inclination (kind circular) [deg]")
    raan_deg: float = Field(
        0.0, ge=0, lt=360, description="Right ascension of the ascending node (kind circular) [deg]"
    )
    ltan_h: float | None = Field(None, ge=0, lt=24, description="Local mean time of the ascending node (kind sso) [h]")
    start: datetime | None = Field(None, description="UTC at mission second 0; null: the epoch of the elements")
    source: str = Field("", description="Where the elements come from")

    @model_validator(mode="after")
    def _complete(self) -> "Orbit":
        needs = {"tle": ["tle"], "omm": ["omm"], "circular": ["altitude_km", "inclination_deg", "start"]}
        for key in needs.get(self.kind, ["altitude_km", "ltan_h", "start"]):
            if getattr(self, key) is None:
                raise ValueError(
                    f"orbit.{key}: null, but orbit.kind {self.kind} needs it; give it or point orbit at a file"
                )
        describes = {"circular": {"altitude_km", "inclination_deg", "raan_deg"}, "sso": {"altitude_km", "ltan_h"}}
        for key in ("altitude_km", "inclination_deg", "raan_deg", "ltan_h"):
            given = getattr(self, key)
            if given != type(self).model_fields[key].default and key not in describes.get(self.kind, ()):
                raise ValueError(
                    f"orbit.{key}: {given:g}: of no effect with orbit.kind {self.kind}; leave it out, or "
                    "set orbit.kind to " + " or ".join(kind for kind, keys in describes.items() if key in keys)
                )
        if self.omm and self.kind != "omm":
            raise ValueError(f"orbit.kind: {self.kind}, but orbit.omm is given; set orbit.kind to omm")
        return self


class Array(Section):
    """Solar array: P = 1361/d² ν A η [1 + α(T − 28 °C)] k_pack cosθ (1 − δ)^years η_mppt."""

    area_m2: float = Field(2.4, gt=0, le=1000, description="Area of the panels, with what lies between the cells [m²]")
    efficiency: float = Field(0.30, gt=0, lt=1, description="Cell efficiency at 28 °C, beginning of life")
    temperature_coefficient: float = Field(-0.0025, ge=-0.01, le=0, description="Relative efficiency per kelvin [1/K]")
    cell_temperature_c: float = Field(60.0, ge=-100, le=150, description="Cell temperature in sunlight [°C]")
    packing: float = Field(0.90, gt=0, le=1, description="Share of the panel that is cells")
    pointing_deg: float = Field(0.0, ge=0, lt=90, description="Mean angle between panel normal and Sun [deg]")
    degradation_per_year: float = Field(0.025, ge=0, lt=1, description="Relative loss per year in orbit")
    age_years: float = Field(0.0, ge=0, le=30, description="Time in orbit at mission second 0 [years]")
    mppt_efficiency: float = Field(0.95, gt=0, le=1, description="Efficiency of the peak-power tracker")


class Battery(Section):
    """Battery: dE/dt = η_c P_c − P_d/η_d − σE, between the depth-of-discharge floor and capacity."""

    capacity_wh: float = Field(1000.0, gt=0, description="Energy held when full; of it depth_of_discharge is used [Wh]")
    depth_of_discharge: float = Field(0.30, gt=0, le=1, description="Deepest allowed discharge, share of capacity")
    charge_efficiency: float = Field(0.96, gt=0, le=1, description="Energy stored per energy put in")
    discharge_efficiency: float = Field(0.96, gt=0, le=1, description="Energy delivered per energy drawn")
    self_discharge_per_day: float = Field(0.001, ge=0, lt=1, description="Relative loss of charge per day")
    charge_c_rate: float = Field(0.5, gt=0, description="Highest charge power over capacity [1/h]")
    discharge_c_rate: float = Field(1.0, gt=0, description="Highest discharge power over capacity [1/h]")
    fade_per_cycle: float = Field(3e-5, ge=0, le=0.01, description="Capacity lost per equivalent full cycle, relative")
    charge_min_c: float = Field(0.0, ge=-60, le=40, description="Below this temperature it takes no charge [°C]")
    charge_max_c: float = Field(45.0, ge=0, le=80, description="Above this temperature it takes no charge [°C]")
    heat_capacity_j_k: float = Field(8000.0, gt=0, description="Heat that warms the battery by one kelvin [J/K]")
    conductance_w_k: float = Field(2.0, gt=0, description="Heat flow to the structure around it [W/K]")
    surroundings_c: float = Field(8.0, ge=-100, le=60, description="Temperature of that structure [°C]")
    initial_charge: float = Field(1.0, gt=0, le=1, description="State of charge at mission second 0")
    initial_c: float = Field(15.0, ge=-60, le=60, description="Temperature at mission second 0 [°C]")

    @model_validator(mode="after")
    def _takes_charge(self) -> "Battery":
        if self.charge_min_c >= self.charge_max_c:
            raise ValueError(
                f"satellite.battery.charge_min_c: {self.charge_min_c:g} must lie below charge_max_c "
                f"{self.charge_max_c:g}"
            )
        return self


class Loads(Section):
    """What draws power besides the GPU."""

    bus_w: float = Field(45.0, ge=0, description="Satellite bus, always on [W]")
    eclipse_heater_w: float = Field(15.0, ge=0, description="Heater, in shadow [W]")
    host_w: float = Field(80.0, ge=0, description="Computer that hosts the GPU, while it is on [W]")
    hold_w: float | None = Field(
        None,
        ge=0,
        description="GPU and host in a hold [W]; null: nothing on the simulated clock, on which they are switched off, "
        "and on a real one gpu.idle_w and host_w, for nobody does",
    )
    transmitter_w: float = Field(0.0, ge=0, description="Radio transmitter, in passes over a ground station [W]")
    regulator_efficiency: float = Field(0.93, gt=0, le=1, description="From the power bus to GPU and host")


class Radiator(Section):
    """Cools GPU and host: C dT/dt = Q + A q_env − ε σ A T⁴, and a phase-change material that melts at a point."""

    area_m2: float = Field(2.0, gt=0, le=1000, description="Radiating area [m²]")
    emissivity: float = Field(0.85, gt=0, le=1, description="Infrared emissivity")
    absorbed_w_m2: float = Field(60.0, ge=0, le=1000, description="Absorbed from the Earth, day and night [W/m²]")
    absorbed_sunlit_w_m2: float = Field(40.0, ge=0, le=1000, description="Absorbed besides in sunlight [W/m²]")
    heat_capacity_j_k: float = Field(20000.0, gt=0, description="Heat that warms GPU, plate and radiator by 1 K [J/K]")
    melting_c: float = Field(40.0, ge=-100, le=150, description="Melting point of the phase-change material [°C]")
    latent_j: float = Field(0.0, ge=0, description="Heat that melts all of it; 0: there is none [J]")
    limit_c: float = Field(60.0, ge=-50, le=150, description="Hottest allowed plate [°C]")
    junction_k_w: float = Field(0.05, ge=0, le=1, description="Rise from plate to GPU junction [K/W]")
    junction_limit_c: float = Field(100.0, ge=0, le=150, description="Hottest allowed junction [°C]")
    initial_c: float = Field(20.0, ge=-100, le=150, description="Plate at mission second 0 [°C]")

    @model_validator(mode="after")
    def _starts_below_its_limit(self) -> "Radiator":
        if self.initial_c >= self.limit_c:
            raise ValueError(
                f"satellite.radiator.initial_c: {self.initial_c:g} must lie below limit_c {self.limit_c:g}"
            )
        return self


class Radio(Section):
    """What brings data down."""

    downlink_mbit_s: float = Field(2.0, gt=0, description="Rate of the downlink [Mbit/s]")
    usable: float = Field(
        0.75,
        gt=0,
        le=1,
        description="Share of a pass's seconds times rate that carries files; the rest is acquisition, "
        "framing, coding and what is sent again",
    )


class Satellite(Section):
    name: str = Field("default satellite", description="Label")
    array: Array = Field(Array(), description="Solar array")
    battery: Battery = Field(Battery(), description="Battery")
    loads: Loads = Field(Loads(), description="Loads besides the GPU")
    radiator: Radiator = Field(Radiator(), description="Cooling of GPU and host")
    radio: Radio = Field(Radio(), description="Downlink")
    source: str = Field("assumed", description="Where the figures come from")

    @property
    def keeps(self) -> dict[str, float]:
        """Capacity and floor of the battery [Wh] and limit of the plate [°C], rounded as readings of them are."""
        floor_wh = self.battery.capacity_wh * (1.0 - self.battery.depth_of_discharge)
        return {
            "capacity_wh": round(self.battery.capacity_wh, 3),
            "floor_wh": round(floor_wh, 3),
            "limit_c": round(self.radiator.limit_c, 2),
        }


class Gpu(Section):
    """Power against throughput, and how long a piece of work takes."""

    name: str = Field("default GPU", description="Label")
    peak_tflops: float = Field(756.0, gt=0, description="Dense bf16 matrix peak [TFLOP/s]")
    mfu: float = Field(0.35, gt=0, le=1, description="Share of the peak that training reaches at full power")
    step_overhead_s: float = Field(0.0005, ge=0, description="Time of a step beside its arithmetic [s]")
    idle_w: float = Field(60.0, ge=0, description="Power when on and idle [W]")
    curve: tuple[tuple[float, float], ...] = Field(
        ((0.0, 120.0), (0.5, 250.0), (1.0, 350.0)),
        max_length=1000,
        description="Pairs (share of full throughput, power [W]), rising; the last is (1, full power)",
    )
    actuator: Literal["simulated", "nvml", "duty-cycle"] = Field(
        "simulated",
        description="How a power cap is kept on a real clock: not, by NVML and, below the card's least cap, by pauses, "
        "or by pauses between chunks alone",
    )
    sm_mhz: int | None = Field(None, ge=100, le=5000, description="SM clock to lock (actuator nvml) [MHz]; null: none")
    provenance: Literal["modelled", "datasheet", "measured"] = Field("modelled", description="What the curve rests on")
    source: str = Field("assumed", description="Where the figures come from")

    @model_validator(mode="after")
    def _curve_rises(self) -> "Gpu":
        shares, watts = zip(*self.curve, strict=True)
        rising = all(a < b for xs in (shares, watts) for a, b in pairwise(xs))
        if not rising or shares[-1] != 1.0 or shares[0] < 0 or watts[0] < 0:
            raise ValueError(f"gpu.curve: {self.curve} must rise in both columns and end at a share of 1")
        if self.idle_w >= watts[-1]:
            raise ValueError(
                f"gpu.idle_w: {self.idle_w:g} must lie below {watts[-1]:g} W, the full power of gpu.curve; "
                "lower it, or measure both (train.py calibrate)"
            )
        if self.sm_mhz and self.actuator != "nvml":
            raise ValueError(
                f"gpu.sm_mhz: {self.sm_mhz}: of no effect with gpu.actuator {self.actuator}; set that to nvml"
            )
        return self


class Station(Section):
    """A ground station. The transmitter is on while it sees the satellite."""

    name: str = Field(description="Label")
    latitude_deg: float = Field(ge=-90, le=90, description="Geodetic latitude, north positive [deg]")
    longitude_deg: float = Field(ge=-180, le=180, description="Longitude, east positive [deg]")
    altitude_m: float = Field(0.0, ge=-500, le=6000, description="Height over the ellipsoid [m]")
    mask_deg: float = Field(10.0, ge=0, lt=90, description="Lowest elevation at which it can be used [deg]")


class Mission(Section):
    """How mission time passes, by which rule power is given out, and who listens on the ground."""

    clock: Literal["simulated", "real"] = Field(
        "simulated", description="simulated: by the modelled time of each piece of work; real: by this machine's clock"
    )
    policy: Literal["optimal", "full-power"] = Field(
        "full-power",
        description="optimal: the dynamic programme's table, which chooses power too; full-power: all or nothing",
    )
    step_flops: float | None = Field(
        None,
        gt=0,
        description="Arithmetic that one step is charged for [FLOP]; null: the model's own. With the figure of a large "
        "model, a small one rehearses its mission",
    )
    harvest_error: float = Field(
        0.0, gt=-1, le=1, description="True harvest over the planned, less one: rehearses a forecast that is wrong"
    )
    restart_s: float = Field(
        60.0, ge=0, description="From GPU power-on to the first step after a hold [s]; on a real clock 0"
    )
    not_before_s: float = Field(
        0.0, ge=0, description="This launch begins no earlier; the GPU was off until then (clock simulated) [mission s]"
    )
    stations: tuple[Station, ...] = Field(
        (), max_length=1000, description="Ground stations that the satellite transmits to"
    )


class Telemetry(Section):
    """Where charge and temperature are measured."""

    source: Literal["simulated", "file", "udp"] = Field(
        "simulated", description="simulated: the plant; file: a JSONL feed; udp: CCSDS space packets"
    )
    path: Path | None = Field(None, description="The feed (source file)")
    host: str = Field("127.0.0.1", description="Address to listen on (source udp); packets are not authenticated")
    port: int = Field(10015, ge=0, le=65535, description="UDP port to listen on (source udp)")
    apid: int = Field(100, ge=0, le=2046, description="Application process identifier of the packets (source udp)")
    max_age_s: float = Field(120.0, gt=0, description="Older telemetry is stale: the GPU is switched off [s]")
    charge_noise_wh: float = Field(0.0, ge=0, description="Sensor noise, 1 sigma (source simulated) [Wh]")
    temperature_noise_k: float = Field(0.0, ge=0, description="Sensor noise, 1 sigma (source simulated) [K]")

    @model_validator(mode="after")
    def _path_given(self) -> "Telemetry":
        if self.source == "file" and self.path is None:
            raise ValueError("telemetry.path: null, but telemetry.source is file; name the feed")
        if self.source != "file" and self.path:
            raise ValueError(
                f"telemetry.path: {self.path}: of no effect with telemetry.source {self.source}; set that to file"
            )
        return self
