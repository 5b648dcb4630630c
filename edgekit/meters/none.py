"""No meter: there is no energy figure, and the reason is said."""

from __future__ import annotations

from edgekit.errors import EdgekitError
from edgekit.parts import Meter, Readout
from edgekit.sysfs import HERE, Tree


class NoMeter(Meter):
    """Stands where a device has no sensor and no counter; it is never available."""

    def available(self, tree: Tree = HERE) -> str:
        """The reason, always."""
        return "no energy counter is known for this target; name one with `meter` in its file"

    def open(self, tree: Tree = HERE) -> Readout:
        """EdgekitError: nothing can be read, so there is no number."""
        raise EdgekitError(self.available(tree))


PART = NoMeter()
