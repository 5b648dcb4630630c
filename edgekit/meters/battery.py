"""A laptop's or board's own battery while it discharges: the power of the whole machine, slowly updated.

Source: Documentation/ABI/testing/sysfs-class-power of Linux (uW, uA, uV, uWh, uAh). The sign of power_now and current_now
differs by driver, so a battery counts only while its status says "Discharging", and then with the magnitude.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgekit.errors import EdgekitError
from edgekit.meters._files import FilesReadout, Rail, number, text_of
from edgekit.parts import Channel, Meter, Readout
from edgekit.sysfs import HERE, Tree

REFRESH_S = 30.0  # gauges update every 1 to 30 s and do not say how often: the slowest is assumed
STEP_W, STEP_WH = 0.01, 0.01  # most gauges count in 10 mW and 10 mWh
DISCHARGING = "Discharging"


class Battery(Meter):
    """The sum of the system's batteries that discharge; those of mice and keyboards are left out."""

    def available(self, tree: Tree = HERE) -> str:
        status = {path: text_of(tree, f"{path}/status") or "Unknown" for path in _batteries(tree)}
        if not status:
            return "no battery of the system in /sys/class/power_supply"
        if "Charging" in status.values() or DISCHARGING not in status.values():
            told = ", ".join(f"{path.rsplit('/', 1)[1]} is {s.lower()}" for path, s in status.items())
            return f"{told}: its power is known only while the machine runs from it; unplug the charger and measure again"
        return "" if _rails(tree) else "the battery tells neither power nor energy nor charge; measure with an external meter (external_csv)"

    def open(self, tree: Tree = HERE) -> Readout:
        reason = self.available(tree)
        if reason:
            raise EdgekitError(reason)
        rails = _rails(tree)
        return FilesReadout(tree, "battery: the whole machine, display included", [r.channel.name for r in rails], rails)


def _batteries(tree: Tree) -> list[str]:
    types = [path for path in tree.find("/sys/class/power_supply/*/type") if text_of(tree, path) == "Battery"]
    folders = [path.removesuffix("/type") for path in types]
    return [path for path in folders if text_of(tree, f"{path}/scope") != "Device" and text_of(tree, f"{path}/present") != "0"]


def _rails(tree: Tree) -> list[Rail]:
    found = (_rail(tree, path) for path in _batteries(tree) if text_of(tree, f"{path}/status") == DISCHARGING)
    return [rail for rail in found if rail]


def _rail(tree: Tree, folder: str) -> Rail | None:
    """Power where it is told, or current times voltage; else what is left, as joules taken so far (below zero, rising)."""
    name = folder.rsplit("/", 1)[1]

    def has(*files: str) -> tuple[str, ...]:
        paths = tuple(f"{folder}/{f}" for f in files)
        return (f"{folder}/status", *paths) if all(number(text_of(tree, p)) is not None for p in paths) else ()

    for scale, files in ((1e-6, has("power_now")), (1e-12, has("current_now", "voltage_now"))):
        if files:
            return Rail(Channel(name, "power", STEP_W, REFRESH_S, files=files), _while_discharging(scale))
    if files := has("energy_now"):
        return Rail(Channel(name, "energy", STEP_WH * 3600, REFRESH_S, files=files), _while_discharging(-1e-6 * 3600))
    # Charge at the voltage of the start: a charge times the voltage of each moment would count the sag of the whole charge.
    volts = (number(text_of(tree, f"{folder}/voltage_now")) or 0.0) * 1e-6
    files = has("charge_now")
    if not files or not volts:
        return None
    return Rail(Channel(name, "energy", STEP_WH * 3600, REFRESH_S, files=files), _while_discharging(-1e-6 * 3600 * volts))


def _while_discharging(scale: float) -> Callable[[Sequence[str | None]], float | None]:
    def value(texts: Sequence[str | None]) -> float | None:
        status, *numbers = texts
        if status != DISCHARGING:
            return None
        found = scale
        for text in numbers:
            factor = number(text)
            if factor is None:
                return None
            found *= abs(factor)
        return found

    return value


PART = Battery()
