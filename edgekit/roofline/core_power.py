"""Watts of a CPU whose power nobody stated: so many for each core that works, between the frugal and the hungry ones that are sold."""

from __future__ import annotations

from dataclasses import dataclass

# Stated power by number of cores, as makers' data sheets are commonly quoted. Usual: 6 W by 4 (Intel N100), 210 W by 80 (Ampere Altra
# Q80-30), 280 W by 64 (AMD EPYC 7763), 270 W by 40 (Intel Xeon Platinum 8380) are 1.5 to 7. Most: 180 W by 8 (AMD EPYC 7F32) are 23, and a core
# that runs alone may take more than its share. Least: small in-order cores at 1 GHz take tenths of a watt.
LEAST_W, USUAL_W, MOST_W = 0.1, 4.0, 30.0


@dataclass(frozen=True)
class CorePower:
    """Watts of the cores that work."""

    least_w: float
    usual_w: float
    most_w: float
    source: str  # with its grade


def core_power(cores: float) -> CorePower:
    """Of so many busy cores: what makers state of whole processors, by core. It leaves out memory, supply and board."""
    source = f"{LEAST_W:g}, {USUAL_W:g}, {MOST_W:g} W for each of {cores:g} cores, what processors that are sold state by core (assumed)"
    return CorePower(LEAST_W * cores, USUAL_W * cores, MOST_W * cores, source)
