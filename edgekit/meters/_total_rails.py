"""Rails that a person names as those that add up to the total, for boards that edgekit does not know."""

from __future__ import annotations

import os

VARIABLE = "EDGEKIT_TOTAL_RAILS"  # "VDD_A,VDD_B"


def asked() -> tuple[str, ...]:
    """The rails that the environment names, in its order."""
    return tuple(name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip())
