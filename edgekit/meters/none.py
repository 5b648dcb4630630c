"""No meter: there is no energy figure, and the reason is said."""

from __future__ import annotations

from edgekit.parts import Meter


class NoMeter(Meter):
    """Stands where a device has no counter; every reading is None."""

    def available(self) -> str:
        """The reason, always."""
        return "no energy counter is known for this target; name one with `meter` in its file"

    def energy_j(self) -> float | None:
        """Nothing was read, so there is no number."""
        return None


PART = NoMeter()
