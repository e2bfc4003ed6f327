"""The least charge from which the satellite survives."""

import math
from itertools import accumulate

import numpy as np
from jaxtyping import Bool, Float

from pipeline.config.errors import BadInput
from pipeline.orbit import Environment
from pipeline.orbit.timeline import DAY_S
from pipeline.plan.scenario import SUNLIT
from pipeline.power import OFF, Ambient, Command, Plant
from pipeline.power.plant import HOUR_S
from pipeline.power.simulator import columns

Series = Float[np.ndarray, " time"]


def stored_wh(plant: Plant, sky: Environment, command: Command, margin: float) -> Series:
    """Charge gained from the first sample up to each sample under a constant command, were the battery never full [Wh].

    Harvest is taken `margin` lower and load `margin` higher than modelled.
    """
    surplus_w = _surplus_w(plant, sky, command, margin)
    charged_w = np.clip(surplus_w, 0.0, plant.charge_max_w) * plant.charge_efficiency
    if plant.surroundings_c < plant.charge_min_c:
        charged_w = charged_w * (coldest_c(plant, sky) >= plant.charge_min_c)
    rate_w = charged_w + np.minimum(surplus_w, 0.0) / plant.discharge_efficiency
    rate_w = rate_w - plant.self_discharge_per_s * plant.capacity_wh * HOUR_S
    # Trapezium rule: the plant sees the middle of a slot, where light is the mean of both samples.
    return np.concatenate([[0.0], np.cumsum(0.5 * (rate_w[1:] + rate_w[:-1]))]) * sky.step_s / HOUR_S


def coldest_c(plant: Plant, sky: Environment, begin_c: float | None = None) -> Series:
    """How cold the battery can be at each sample, in a hold in which it takes no charge [°C].

    C dT/dt = P_heat + (1/η_d − 1) P_d + G (T_s − T), P_d what the bus asks of the battery. It is warmer where it is
    charged or works: both lose heat in it.

    Args:
        begin_c: at the first sample; null: where days of such a hold have brought it.
    """
    ambient = Ambient(sky.time_s, *columns(sky))
    short_w = np.maximum(plant.bus_load_w(ambient) - plant.array_w(ambient), 0.0)
    heater_w = plant.eclipse_heater_w * (1.0 - ambient.illumination)
    heated_w = heater_w + (1.0 / plant.discharge_efficiency - 1.0) * short_w
    towards_c = (plant.surroundings_c + heated_w / plant.battery_w_k).tolist()
    kept = math.exp(-plant.battery_w_k * sky.step_s / plant.battery_j_k)

    def through(from_c: float) -> list[float]:
        return list(accumulate(towards_c, lambda now_c, to_c: to_c + (now_c - to_c) * kept, initial=from_c))[:-1]

    if begin_c is None:
        begin_c = through(plant.surroundings_c)[round(DAY_S / sky.step_s)]
    return np.array(through(begin_c))


def overdrawn(plant: Plant, sky: Environment, command: Command, margin: float) -> Bool[np.ndarray, " time"]:
    """Where a command asks more of the cells than their C-rate allows, so that part of it would not be served."""
    return -_surplus_w(plant, sky, command, margin) > plant.discharge_max_w


def _surplus_w(plant: Plant, sky: Environment, command: Command, margin: float) -> Series:
    ambient = Ambient(sky.time_s, *columns(sky))
    load_w = plant.bus_load_w(ambient) + plant.payload_w(command)
    return plant.array_w(ambient) * (1.0 - margin) - load_w * (1.0 + margin)


def reserve_wh(plant: Plant, sky: Environment, margin: float) -> Series:
    """The least charge at each sample from which the floor holds to the end of `sky` in a hold [Wh]; more than the
    battery takes where it does not hold.

    For one umbra this is E_floor + (P_bus + P_heat) t / η_d of the t that is left of it; written as the largest
    deficit of all that lies ahead, it holds as well for eclipses that follow each other faster than the array refills.
    """
    stored = stored_wh(plant, sky, OFF, margin)
    return plant.floor_wh + stored - np.minimum.accumulate(stored[::-1])[::-1]


def require_reserve(plant: Plant, sky: Environment, margin: float) -> None:
    """Whether the satellite lives through `sky` in a hold.

    Raises:
        BadInput: a full battery does not last, gives less power than is drawn, or grows too cold to be charged.
    """
    if overdrawn(plant, sky, OFF, margin).any():
        raise BadInput(
            f"satellite.battery.discharge_c_rate: the battery gives {plant.discharge_max_w:.0f} W, less than "
            f"{drawn_by(plant)} draw in shadow; enlarge it or capacity_wh"
        )
    needed_wh = reserve_wh(plant, sky, margin).max()
    if needed_wh > plant.capacity_wh:
        _require_warmth(plant, sky)
        raise BadInput(
            f"satellite.battery.capacity_wh: {plant.capacity_wh:g}: {drawn_by(plant)} need "
            f"{needed_wh - plant.floor_wh:.0f} Wh above the floor in this orbit, depth_of_discharge leaves "
            f"{plant.capacity_wh - plant.floor_wh:.0f}; enlarge battery or array"
        )


def require_hold(plant: Plant, sky: Environment, margin: float, begin_c: float) -> None:
    """Whether the satellite lives from day to day in a hold.

    Args:
        sky: the first two days.
        begin_c: the battery at the first sample.

    Raises:
        BadInput: it does not, or is colder at times on the first day than the reserve counts on.
    """
    require_reserve(plant, sky, margin)
    first, second = np.array_split(stored_wh(plant, sky, OFF, margin), 2)
    if second.max() < first.max():
        _require_warmth(plant, sky)
        raise BadInput(
            f"satellite.array: {drawn_by(plant)} drain the battery by {first.max() - second.max():.0f} Wh a day in "
            "this orbit; enlarge area_m2"
        )
    resting_c, limit_c = float(plant.plate_c(plant.resting_j(SUNLIT))), float(plant.limit_at(0.0))
    if resting_c > limit_c:
        raise BadInput(
            f"satellite.radiator.area_m2: {plant.radiator_m2:g}: in a hold in sunlight the plate warms to "
            f"{resting_c:.0f} C, above its limit of {limit_c:g}; enlarge it"
        )
    if min(begin_c, plant.surroundings_c) >= plant.charge_min_c:
        return
    begun_c = coldest_c(plant, sky, begin_c)
    late = (begun_c < plant.charge_min_c) & (coldest_c(plant, sky) >= plant.charge_min_c)
    if late.any():
        raise BadInput(
            f"satellite.battery.initial_c: {begin_c:g}: on the first day the battery is at {begun_c[late].min():.0f} C "
            f"at times, and takes no charge below charge_min_c, {plant.charge_min_c:g}; begin when it is warmer"
        )


def _require_warmth(plant: Plant, sky: Environment) -> None:
    """Names the cold as the cause where charge falls short."""
    lowest_c = float(coldest_c(plant, sky).min())
    if lowest_c < plant.charge_min_c:
        raise BadInput(
            f"satellite.battery.surroundings_c: {plant.surroundings_c:g}: in a hold the battery cools to "
            f"{lowest_c:.0f} C, takes no charge below charge_min_c, {plant.charge_min_c:g}, and does not last; "
            "insulate it (conductance_w_k) or heat it (satellite.loads.eclipse_heater_w)"
        )


def drawn_by(plant: Plant) -> str:
    """Who draws power in a hold, in words."""
    held = f" and GPU and host, {plant.hold_w:g} W in a hold (satellite.loads.hold_w)," if plant.hold_w else ""
    return f"bus and heater{held}"


def reserve_after_wh(reserve: Series, stored: Series, slots: int) -> Series:
    """The least charge at each sample from which `slots` slots of a load end, and pass, at or above the reserve [Wh].

    Args:
        reserve: what must be left at each sample [Wh].
        stored: `stored_wh` under that load.
    """
    ahead = np.pad(reserve - stored, (0, slots), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(ahead, slots + 1).max(axis=1) + stored
