"""The least charge from which the satellite survives."""

import numpy as np
from jaxtyping import Bool, Float

from pipeline.config.errors import BadInput
from pipeline.orbit import Environment
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
    rate_w = charged_w + np.minimum(surplus_w, 0.0) / plant.discharge_efficiency
    rate_w = rate_w - plant.self_discharge_per_s * plant.capacity_wh * HOUR_S
    # Trapezium rule: the plant sees the middle of a slot, where light is the mean of both samples.
    return np.concatenate([[0.0], np.cumsum(0.5 * (rate_w[1:] + rate_w[:-1]))]) * sky.step_s / HOUR_S


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
        BadInput: a full battery does not last, or gives less power than is drawn.
    """
    if overdrawn(plant, sky, OFF, margin).any():
        raise BadInput(
            f"satellite.battery.discharge_c_rate: the battery gives {plant.discharge_max_w:.0f} W, less than "
            f"{drawn_by(plant)} draw in shadow; enlarge it or capacity_wh"
        )
    needed_wh = reserve_wh(plant, sky, margin).max()
    if needed_wh > plant.capacity_wh:
        raise BadInput(
            f"satellite.battery.capacity_wh: {plant.capacity_wh:g}: {drawn_by(plant)} need "
            f"{needed_wh - plant.floor_wh:.0f} Wh above the floor in this orbit, depth_of_discharge leaves "
            f"{plant.capacity_wh - plant.floor_wh:.0f}; enlarge battery or array"
        )


def require_hold(plant: Plant, sky: Environment, margin: float, begin_c: float) -> None:
    """Whether the satellite lives from day to day in a hold: what a rule falls back on, and an outage is.

    Args:
        sky: the first two days.
        begin_c: the battery at mission second 0.

    Raises:
        BadInput: battery or array do not last, the battery can grow too cold to be charged, or battery or plate stay
            too hot.
    """
    _require_charge(plant, sky, margin, begin_c)
    # Stopping must cool the plate, or leave it where it is: a rule stops at the limit.
    settled_c, limit_c = float(plant.plate_c(plant.resting_j(SUNLIT))), float(plant.limit_at(0.0))
    if settled_c > limit_c:
        raise BadInput(
            f"satellite.radiator.area_m2: {plant.radiator_m2:g}: in a hold in lasting sunlight the plate would settle "
            f"at {settled_c:.0f} C, above its limit of {limit_c:g}; enlarge it"
        )
    require_reserve(plant, sky, margin)
    first, second = np.array_split(stored_wh(plant, sky, OFF, margin), 2)
    if second.max() < first.max():
        raise BadInput(
            f"satellite.array: {drawn_by(plant)} drain the battery by {first.max() - second.max():.0f} Wh a day in "
            "this orbit; enlarge area_m2"
        )


def _require_charge(plant: Plant, sky: Environment, margin: float, begin_c: float) -> None:
    """The reserve counts on every charge: in a hold the battery must never be too cold for it, nor stay too hot."""
    # Whatever else warms the battery, it stays above the colder of the two.
    for key, celsius in (("surroundings_c", plant.surroundings_c), ("initial_c", begin_c)):
        if celsius < plant.charge_min_c:
            raise BadInput(
                f"satellite.battery.{key}: {celsius:g}: below charge_min_c, {plant.charge_min_c:g}, so that in a hold "
                "the battery would take no charge and run empty; keep it warmer (what a thermostat keeps counts as "
                "surroundings_c)"
            )
        if celsius > plant.charge_max_c:
            raise BadInput(
                f"satellite.battery.{key}: {celsius:g}: above charge_max_c, {plant.charge_max_c:g}, so that the "
                "battery would take no charge; keep it cooler"
            )
    heater_w = plant.eclipse_heater_w * (1.0 - sky.illumination)
    short_w = -np.minimum(_surplus_w(plant, sky, OFF, margin), 0.0)
    warming_w = float(np.mean(heater_w + (1.0 / plant.discharge_efficiency - 1.0) * short_w))
    settled_c = plant.surroundings_c + warming_w / plant.battery_w_k
    if settled_c > plant.charge_max_c:
        raise BadInput(
            f"satellite.battery.conductance_w_k: {plant.battery_w_k:g}: in a hold heater and losses would keep the "
            f"battery at {settled_c:.0f} C, and above charge_max_c, {plant.charge_max_c:g}, it takes no charge; "
            "enlarge it"
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
