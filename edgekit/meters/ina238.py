"""The input of a whole board through an INA238: VIN of the Jetson Thor developer kit, with the module's rails beside it.

Sources: Documentation/hwmon/ina238.rst and drivers/hwmon/ina238.c of Linux (power in uW, and no labels); NVIDIA
forum 366461: the INA238 on the carrier of a Thor measures VIN, all that module and carrier board take.
"""

from __future__ import annotations

from edgekit.errors import EdgekitError
from edgekit.meters import _ina3221_rails
from edgekit.meters._files import GONE, FilesReadout, Rail, board, number, product, text_of
from edgekit.meters._total_rails import VARIABLE, asked
from edgekit.parts import Channel, Meter, Readout
from edgekit.sysfs import HERE, Tree

REFRESH_S = 0.05  # the driver's default: 16 averages of 3 conversions of 1.052 ms
SHUNT_STEP_V = 5e-6
SHUNT_OHM = 1e-3  # the driver does not tell it; a larger one makes the step smaller


class Ina238(Meter):
    """One INA238 is the figure. INA3221 rails lie behind it: they are shown and not added."""

    def available(self, tree: Tree = HERE) -> str:
        found = _inputs(tree)
        if not found:
            return "no INA238 power monitor here (it is on the carrier board of the Jetson Thor developer kit)"
        total = _total(found)
        if total is None:
            names = ", ".join(r.channel.name for r in found)
            return f"there is {names}, on a line that edgekit does not know; set {VARIABLE}=NAME to say that it is the board's input"
        path = total.channel.files[0]
        return "" if number(text_of(tree, path)) is not None else f"{path} cannot be read; run `cat {path}` to see why"

    def open(self, tree: Tree = HERE) -> Readout:
        reason, found = self.available(tree), _inputs(tree)
        total = _total(found)
        if reason or total is None:
            raise EdgekitError(reason or GONE)
        name = total.channel.name
        scope = f"board input {name}: module and carrier board (no supply)" if name == "VIN" else f"line {name}, named by {VARIABLE}"
        return FilesReadout(tree, f"{scope} of {board(tree)}" if board(tree) else scope, (name,), [*found, *_ina3221_rails.rails(tree)])


def _inputs(tree: Tree) -> list[Rail]:
    """INA238 chips; named by a label where the board's description has one, VIN on a Thor, else by their place."""
    found: list[Rail] = []
    folders = [p.removesuffix("/name") for p in tree.find("/sys/class/hwmon/hwmon*/name") if text_of(tree, p) == "ina238"]
    for folder in folders:
        label = next((t for f in ("label", "power1_label", "in1_label") if (t := text_of(tree, f"{folder}/{f}"))), "")
        if not label and len(folders) == 1 and "Thor" in board(tree):
            label = "VIN"
        volts = (number(text_of(tree, f"{folder}/in1_input")) or 0.0) * 1e-3
        channel = Channel(
            label or f"ina238 {folder.rsplit('/', 1)[1]}", "power", SHUNT_STEP_V / SHUNT_OHM * volts, REFRESH_S,
            files=(f"{folder}/power1_input",),
        )  # fmt: skip
        found.append(Rail(channel, product(1e-6)))
    return found


def _total(found: list[Rail]) -> Rail | None:
    """The board's input: what a person named, else VIN; None where neither is there."""
    named = [r for r in found if r.channel.name in asked()]
    return next((r for r in [*named, *found] if r in named or r.channel.name == "VIN"), None)


PART = Ina238()
