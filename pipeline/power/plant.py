"""The satellite's power and heat as one pure function of time: array, battery, loads, radiator.

`Plant.step` is the only model of the satellite in Dayside: simulator, forecast, planner and tests all call it. It is
pure: a flight and a short forecast step it in Python's floats, which compiles nothing, and a long forecast traces it
with JAX. Either way in float64 (`jax.enable_x64`), for the books of a month must still close to 1e-6 when a step moves
1e-8 of them.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from pipeline.config.errors import BadInput
from pipeline.config.mission import Satellite

Scalar = Any  # a float outside, a traced array inside, a NumPy series in the reserve

ZERO_C_K = 273.15
STEFAN_BOLTZMANN = 5.670374419e-8  # [W/m²/K⁴] (CODATA 2018)
REFERENCE_CELL_C = 28.0  # solar cells are rated at 28 °C
SLOW_S = 120.0  # heat must come and go no faster: the longest of the explicit steps is 10 s
HOUR_S = 3600.0
YEAR_S = 365.25 * 86400.0


class State(NamedTuple):
    """What the plant remembers, then its books since mission second 0. All scalars."""

    charge_wh: Scalar  # stored in the battery
    battery_c: Scalar  # battery temperature
    heat_j: Scalar  # enthalpy of plate, radiator and phase-change material; 0 J: solid at its melting point
    harvest_wh: Scalar  # taken from the array
    bus_wh: Scalar  # delivered to bus, heater and transmitter
    payload_wh: Scalar  # delivered to the regulator of GPU and host
    loss_wh: Scalar  # lost in charging, discharging and by self-discharge
    discharge_wh: Scalar  # drawn from the cells: its ratio to capacity counts equivalent full cycles
    unserved_wh: Scalar  # demanded and not delivered: a brown-out
    rejected_wh: Scalar  # radiated to space, less what the radiator absorbed


class Command(NamedTuple):
    """What GPU and host draw. Both zero: off."""

    gpu_w: Scalar
    host_w: Scalar


class Ambient(NamedTuple):
    """The environment at one moment."""

    time_s: Scalar
    illumination: Scalar
    flux_w_m2: Scalar
    transmitting: Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Plant:
    """A satellite in the units of the equations. Every field is a scalar: one compiled function serves all.

    All methods are written in operators alone: they take floats, NumPy arrays and traced ones.
    """

    array_w_per_flux: Scalar  # power at mission second 0 over flux [m²]
    degradation_per_year: Scalar
    capacity_wh: Scalar
    floor_wh: Scalar
    charge_efficiency: Scalar
    discharge_efficiency: Scalar
    self_discharge_per_s: Scalar
    charge_max_w: Scalar
    discharge_max_w: Scalar
    fade_per_cycle: Scalar
    charge_min_c: Scalar
    charge_max_c: Scalar
    battery_j_k: Scalar
    battery_w_k: Scalar
    surroundings_c: Scalar
    bus_w: Scalar
    eclipse_heater_w: Scalar
    transmitter_w: Scalar
    hold_w: Scalar
    regulator_efficiency: Scalar
    radiator_m2: Scalar
    emissivity: Scalar
    absorbed_w_m2: Scalar
    absorbed_sunlit_w_m2: Scalar
    radiator_j_k: Scalar
    melting_c: Scalar
    latent_j: Scalar
    limit_c: Scalar
    junction_k_w: Scalar
    junction_limit_c: Scalar

    def array_w(self, ambient: Ambient) -> Scalar:
        """Power at the bus from the array [W].

        P = S/d² ν A η28 [1 + α(T − 28 °C)] k_pack cos θ (1 − δ)^years η_mppt (Wertz and Larson, SMAD, 11.4; NASA,
        State of the Art of Small Spacecraft Technology, 3.2).
        """
        aged = (1.0 - self.degradation_per_year) ** (ambient.time_s / YEAR_S)
        return self.array_w_per_flux * aged * ambient.flux_w_m2 * ambient.illumination

    def bus_load_w(self, ambient: Ambient) -> Scalar:
        """What bus, heater and transmitter draw [W]; the heater runs by the share of the Sun that is hidden."""
        heater_w = self.eclipse_heater_w * (1.0 - ambient.illumination)
        return self.bus_w + heater_w + self.transmitter_w * ambient.transmitting

    def payload_w(self, command: Command) -> Scalar:
        """What GPU and host draw before their regulator [W]; asked for nothing, what they draw in a hold."""
        drawn_w = command.gpu_w + command.host_w
        return (drawn_w + self.hold_w * (drawn_w == 0.0)) / self.regulator_efficiency

    def full_wh(self, state: State) -> Scalar:
        """Capacity, faded linearly by equivalent full cycles (after Wertz and Larson, SMAD, 11.4) [Wh]."""
        return self.capacity_wh - self.fade_per_cycle * state.discharge_wh

    def plate_c(self, heat_j: Scalar) -> Scalar:
        """Temperature of an enthalpy [°C]: it stays at the melting point while the latent heat is taken up.

        The enthalpy method (Voller and Cross, Int. J. Heat Mass Transfer 24, 1981).
        """
        sensible_j = heat_j * (heat_j < 0.0) + (heat_j - self.latent_j) * (heat_j > self.latent_j)
        return self.melting_c + sensible_j / self.radiator_j_k

    def heat_at(self, plate_c: Scalar) -> Scalar:
        """Enthalpy of a temperature [J]; at the melting point, all solid."""
        above = plate_c - self.melting_c
        return above * self.radiator_j_k + self.latent_j * (above > 0.0)

    def limit_at(self, gpu_w: Scalar) -> Scalar:
        """Hottest plate at which the GPU may draw `gpu_w`: its own limit or the junction's less R_θ P [°C]."""
        by_junction_c = self.junction_limit_c - self.junction_k_w * gpu_w
        return lesser(self.limit_c, by_junction_c)

    def absorbed_w(self, ambient: Ambient) -> Scalar:
        """Heat that the radiator takes from Earth and Sun [W]."""
        return self.radiator_m2 * (self.absorbed_w_m2 + self.absorbed_sunlit_w_m2 * ambient.illumination)

    def radiated_w(self, heat_j: Scalar, ambient: Ambient) -> Scalar:
        """Net heat to space, ε σ A T⁴ − A q_env [W] (Gilmore, Spacecraft Thermal Control Handbook, 6)."""
        kelvin = self.plate_c(heat_j) + ZERO_C_K
        return self.radiator_m2 * self.emissivity * STEFAN_BOLTZMANN * kelvin**4 - self.absorbed_w(ambient)

    def resting_j(self, ambient: Ambient) -> Scalar:
        """Enthalpy at which the plate settles in a hold [J]."""
        warming_w = self.absorbed_w(ambient) + self.payload_w(Command(0.0, 0.0))
        kelvin = (warming_w / (self.radiator_m2 * self.emissivity * STEFAN_BOLTZMANN)) ** 0.25
        return self.heat_at(kelvin - ZERO_C_K)

    def step(self, state: State, command: Command, ambient: Ambient, dt_s: Scalar) -> State:
        """The state after `dt_s` seconds of constant command and environment, by one explicit Euler step.

        Battery: dE/dt = η_c P_c − P_d/η_d − σE, with 0 ≤ E ≤ capacity(age), both powers bounded by C-rates and no
        charge in cold or heat (Wertz and Larson, SMAD, 11.4). The depth-of-discharge floor is the planner's duty, not
        the cells': a floor that is crossed shows in `charge_wh`; an empty battery shows in `unserved_wh`.
        """
        hours = dt_s / HOUR_S
        harvest_w, bus_w, payload_w = self.array_w(ambient), self.bus_load_w(ambient), self.payload_w(command)
        surplus_w = harvest_w - bus_w - payload_w

        leak_wh = self.self_discharge_per_s * dt_s * state.charge_wh
        held_wh = state.charge_wh - leak_wh
        room_wh = positive(self.full_wh(state) - held_wh)
        takes = (state.battery_c >= self.charge_min_c) * (state.battery_c <= self.charge_max_c)
        charge_w = lesser(positive(surplus_w), self.charge_max_w) * takes
        charge_w = lesser(charge_w, room_wh / (self.charge_efficiency * hours))
        short_w = positive(-surplus_w)
        drawn_w = lesser(short_w, self.discharge_max_w)
        drawn_w = lesser(drawn_w, held_wh * self.discharge_efficiency / hours)
        cells_w = drawn_w / self.discharge_efficiency
        # Emptied to the last joule, rounding leaves ±1e-17 Wh.
        charge_wh = positive(held_wh + (self.charge_efficiency * charge_w - cells_w) * hours)

        unserved_w = short_w - drawn_w
        # A shortage cuts the payload first: bus and heater keep the satellite alive.
        payload_got_w = positive(payload_w - unserved_w)
        bus_got_w = bus_w - positive(unserved_w - payload_w)
        taken_w = payload_got_w + bus_got_w + charge_w - drawn_w
        battery_loss_w = (1.0 - self.charge_efficiency) * charge_w + cells_w - drawn_w

        warming_w = (
            battery_loss_w
            + self.eclipse_heater_w * (1.0 - ambient.illumination)
            + self.battery_w_k * (self.surroundings_c - state.battery_c)
        )
        rejected_w = self.radiated_w(state.heat_j, ambient)
        return State(
            charge_wh=charge_wh,
            battery_c=state.battery_c + warming_w * dt_s / self.battery_j_k,
            heat_j=state.heat_j + (payload_got_w - rejected_w) * dt_s,
            harvest_wh=state.harvest_wh + taken_w * hours,
            bus_wh=state.bus_wh + bus_got_w * hours,
            payload_wh=state.payload_wh + payload_got_w * hours,
            loss_wh=state.loss_wh + battery_loss_w * hours + leak_wh,
            discharge_wh=state.discharge_wh + cells_w * hours,
            unserved_wh=state.unserved_wh + unserved_w * hours,
            rejected_wh=state.rejected_wh + rejected_w * hours,
        )


def positive(value: Scalar) -> Scalar:
    """`value`, or 0 where it is negative. In operators, as `lesser`: floats, NumPy and traced arrays all pass."""
    return value * (value > 0.0)


def lesser(one: Scalar, other: Scalar) -> Scalar:
    return one * (one < other) + other * (one >= other)


def plant(satellite: Satellite) -> Plant:
    """The plant of a configured satellite, its fields Python floats.

    Raises:
        BadInput: battery or plate have too little heat capacity for the steps in which they are computed.
    """
    array, battery, loads, radiator = satellite.array, satellite.battery, satellite.loads, satellite.radiator
    kelvin = radiator.limit_c + ZERO_C_K
    radiator_w_k = 4.0 * radiator.area_m2 * radiator.emissivity * STEFAN_BOLTZMANN * kelvin**3
    for name, part, w_k in (("battery", battery, battery.conductance_w_k), ("radiator", radiator, radiator_w_k)):
        if part.heat_capacity_j_k < SLOW_S * w_k:
            raise BadInput(
                f"satellite.{name}.heat_capacity_j_k: {part.heat_capacity_j_k:g}: where it loses {w_k:.3g} W/K, it "
                f"must be at least {SLOW_S * w_k:.3g}; give all that is warmed, or lose less"
            )
    cell_share = 1.0 + array.temperature_coefficient * (array.cell_temperature_c - REFERENCE_CELL_C)
    return Plant(
        array_w_per_flux=array.area_m2
        * array.efficiency
        * cell_share
        * array.packing
        * math.cos(math.radians(array.pointing_deg))
        * (1.0 - array.degradation_per_year) ** array.age_years
        * array.mppt_efficiency,
        degradation_per_year=array.degradation_per_year,
        capacity_wh=battery.capacity_wh,
        floor_wh=battery.capacity_wh * (1.0 - battery.depth_of_discharge),
        charge_efficiency=battery.charge_efficiency,
        discharge_efficiency=battery.discharge_efficiency,
        self_discharge_per_s=-math.log1p(-battery.self_discharge_per_day) / 86400.0,
        charge_max_w=battery.charge_c_rate * battery.capacity_wh,
        discharge_max_w=battery.discharge_c_rate * battery.capacity_wh,
        fade_per_cycle=battery.fade_per_cycle,
        charge_min_c=battery.charge_min_c,
        charge_max_c=battery.charge_max_c,
        battery_j_k=battery.heat_capacity_j_k,
        battery_w_k=battery.conductance_w_k,
        surroundings_c=battery.surroundings_c,
        bus_w=loads.bus_w,
        eclipse_heater_w=loads.eclipse_heater_w,
        transmitter_w=loads.transmitter_w,
        hold_w=loads.hold_w or 0.0,
        regulator_efficiency=loads.regulator_efficiency,
        radiator_m2=radiator.area_m2,
        emissivity=radiator.emissivity,
        absorbed_w_m2=radiator.absorbed_w_m2,
        absorbed_sunlit_w_m2=radiator.absorbed_sunlit_w_m2,
        radiator_j_k=radiator.heat_capacity_j_k,
        melting_c=radiator.melting_c,
        latent_j=radiator.latent_j,
        limit_c=radiator.limit_c,
        junction_k_w=radiator.junction_k_w,
        junction_limit_c=radiator.junction_limit_c,
    )
