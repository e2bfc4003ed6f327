"""How much charge the battery holds, from where it stands still in light that should fill it.

An aged battery is full sooner than modelled. The energy that it does not take is no fault of the array, for which the
plan would otherwise take it.
"""

TELLING = 0.03  # of the capacity: so much charge must be expected before its rise tells
STANDS = 0.25  # of what was expected, more or less: a battery that is full
LESS = 0.9  # of the harvest: as is planned with
NOTICED = 0.02  # of the capacity, more or less than it was thought to hold, or than a moment ago: the noise of sensors


class Battery:
    """Watched from reading to reading while light should charge it."""

    def __init__(
        self,
        capacity_wh: float,
        planned: float = 1.0,
        harvest: float | None = None,
        highest_wh: float = 0.0,
        stood_wh: float = 0.0,
        suspected_wh: float | None = None,
    ):
        """
        Args:
            capacity_wh: as modelled.
            planned: harvest over that modelled, as is planned with.
            harvest: the same, from how the charge rose; null: not known yet.
            highest_wh: charge that it reached.
            stood_wh: charge at which it stood still, in light that should have charged it; 0: nowhere.
            suspected_wh: more than it was thought to hold: if that is seen once more, it does.
        """
        self._capacity_wh, self._planned, self._harvest = capacity_wh, planned, harvest
        self._highest_wh, self._stood_wh, self._suspected_wh = highest_wh, stood_wh, suspected_wh
        self._rose: float | None = None  # just now, by so much harvest over that modelled
        self._since: tuple[float, float, float] | None = None  # charge, what the model missed, harvest

    def as_json(self) -> list[float | None]:
        return [self._planned, self._harvest, self._highest_wh, self._stood_wh, self._suspected_wh]

    def lose_sight(self) -> None:
        self._since = self._rose = None

    def read(self, charge_wh: float, mended_wh: float, harvest_wh: float) -> None:
        """A reading of the charge.

        Args:
            charge_wh: as the model is put right by it.
            mended_wh: by so much.
            harvest_wh: in all until then, by the model.
        """
        if self._since is None:
            self._since = charge_wh, 0.0, harvest_wh
            return
        self._highest_wh = max(self._highest_wh, charge_wh)
        begun_wh, unmodelled_wh, before_wh = self._since
        gained_wh, unmodelled_wh, by_light_wh = charge_wh - begun_wh, unmodelled_wh + mended_wh, harvest_wh - before_wh
        expected_wh = gained_wh - unmodelled_wh + ((self._harvest or self._planned) - 1.0) * by_light_wh
        if 0.0 <= expected_wh < TELLING * self._capacity_wh:
            self._since = begun_wh, unmodelled_wh, before_wh
            return
        self._since = charge_wh, 0.0, harvest_wh
        if by_light_wh > 0.0 and gained_wh > STANDS * expected_wh > 0.0:
            # One that rises by less may have become full in the middle, or the array gives less: then it does so again.
            harvest = 1.0 + unmodelled_wh / by_light_wh
            if self._rose or harvest > LESS * self._planned:
                self._harvest = max(harvest, self._rose or 0.0)
            self._rose = harvest
        else:
            self._rose = None
            if self._harvest is not None and abs(gained_wh) <= STANDS * expected_wh:
                self._stood_wh = max(self._stood_wh, charge_wh)

    def found(self, full_wh: float, planned: float) -> tuple[float, bool]:
        """After some time in light.

        Args:
            full_wh: what it was thought to hold.
            planned: harvest over that modelled, as is planned with.

        Returns:
            what it holds [Wh], and whether its charge tells what was harvested: not where it may have been full.
        """
        near_wh = NOTICED * self._capacity_wh
        highest_wh, suspected_wh, self._suspected_wh = self._highest_wh, self._suspected_wh, None
        # Where it rose further, it was not full, but the array turned away.
        stands = self._stood_wh >= highest_wh - near_wh and self._stood_wh > 0.0
        self._planned, self._harvest, self._highest_wh, self._stood_wh = planned, None, 0.0, 0.0
        if stands and abs(highest_wh - full_wh) > 0.5 * near_wh:
            return highest_wh, False
        if highest_wh <= full_wh + near_wh:
            return full_wh, True
        if suspected_wh is not None and abs(highest_wh - suspected_wh) <= near_wh:
            return highest_wh, False
        self._suspected_wh = highest_wh
        return full_wh, False
