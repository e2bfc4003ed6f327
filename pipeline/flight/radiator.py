"""How much heat the radiator rejects over that modelled, from the plate's temperature as it is measured."""

from pipeline.flight.telemetry import LEAP_K

TELLING_K = 100.0  # so much heat is watched, in kelvins of the plate, before it tells: sensors err by one
MOST = 0.3  # of the modelled, more or less


class Radiator:
    """Watched between readings that tell the enthalpy, while none are late, and it is known what is drawn."""

    def __init__(self, plate_j_k: float, rejected_j: float = 0.0, unmodelled_j: float = 0.0):
        """
        Args:
            plate_j_k: heat capacity of the plate [J/K].
            rejected_j: while it was watched, by the model.
            unmodelled_j: left in the plate meanwhile, more than that leaves.
        """
        self._plate_j_k = plate_j_k
        self.rejected_j, self.unmodelled_j = rejected_j, unmodelled_j
        self._since: tuple[float, float] | None = None  # the same since a reading that told; rejected in all by then

    def lose_sight(self) -> None:
        self._since = None

    def begin_anew(self) -> None:
        self.rejected_j = self.unmodelled_j = 0.0

    def read(self, rejected_j: float, strays_j: float, mended_j: float, tells: bool) -> None:
        """A reading of the plate.

        Args:
            rejected_j: in all until then, by the model.
            strays_j: the reading from the model, which is then mended by `mended_j`.
            tells: what the enthalpy is; not while the plate melts.
        """
        tells = tells and abs(strays_j) < LEAP_K * self._plate_j_k
        if self._since:
            before_j, unmodelled_j = self._since
            self._since = before_j, unmodelled_j + mended_j
            if tells:
                self.rejected_j += rejected_j - before_j
                self.unmodelled_j += unmodelled_j + strays_j
        if tells:
            self._since = rejected_j, mended_j - strays_j

    def measured(self) -> float | None:
        """Heat rejected over that modelled, to a per cent; None until enough was watched."""
        if self.rejected_j < TELLING_K * self._plate_j_k:
            return None
        return round(1.0 - min(max(self.unmodelled_j / self.rejected_j, -MOST), MOST), 2)
