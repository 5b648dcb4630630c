"""Power rails of Jetson boards (INA3221): which rail is the board's total, and which rails are only shown.

A rail keeps the label of the kernel: VDD_CPU_GPU_CV is CPU, GPU and the vision engines together and nothing less.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.errors import EdgekitError
from edgekit.meters._files import FilesReadout, Rail, board, text_of
from edgekit.meters._ina3221_rails import rails
from edgekit.meters._total_rails import VARIABLE, asked
from edgekit.parts import Meter, Readout
from edgekit.sysfs import HERE, Tree


@dataclass(frozen=True)
class Board:
    """Boards that have all of these rails: their sum is the figure."""

    total: tuple[str, ...]
    scope: str


# In this order. Sources: VDD_IN: NVIDIA forum 200883 ("VDD_IN is the total power of module"). POM_5V_IN: NVIDIA forum 73608
# ("you don't need to add"). AGX Xavier: design guide DG-09840, 5.6.2: two inputs feed these six and none feeds another. AGX
# Orin: VIN_SYS_5V0 feeds VDDQ_VDD2_1V8AO (energymon, JetsonPowerRails.md, after NVIDIA forum 223111), which is shown and not
# added, so that the sum is a lower bound either way; there is no input rail. Thor: VIN of the carrier is an INA238, which is a meter of its own.
BOARDS = (
    Board(("VDD_IN",), "module input VDD_IN (no carrier board, no supply)"),
    Board(("POM_5V_IN",), "board input POM_5V_IN (no supply)"),
    Board(("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"), "sum of the module's six rails (no carrier board, no supply)"),
    Board(("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), "sum of rails: a lower bound of the module (no carrier board, no supply)"),
    Board(("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"), "sum of rails: a lower bound of the module (no carrier board, no supply)"),
)


class Ina3221(Meter):
    """Rails that are measured, at least some hundred times a second; no root is needed."""

    def available(self, tree: Tree = HERE) -> str:
        found = rails(tree)
        if not found:
            return (
                "no INA3221 power monitor with labelled rails here (it is on Jetson boards, but not on the Nano 2GB; in a container, "
                "mount /sys)"
            )
        chosen = _total(found)
        if isinstance(chosen, str):
            return chosen
        for path in (p for r in found if r.channel.name in chosen.total for p in r.channel.files):
            if text_of(tree, path) is None:
                return f"{path} cannot be read; run `cat {path}` to see why"
        return ""

    def open(self, tree: Tree = HERE) -> Readout:
        reason, found = self.available(tree), rails(tree)
        chosen = reason or _total(found)
        if isinstance(chosen, str):
            raise EdgekitError(chosen)
        scope = f"{chosen.scope}: {' + '.join(chosen.total)}" if len(chosen.total) > 1 else chosen.scope
        return FilesReadout(tree, f"{scope} of {board(tree)}" if board(tree) else scope, chosen.total, found)


def _total(found: list[Rail]) -> Board | str:
    """What adds up to the board; a reason where that is not known."""
    names = [r.channel.name for r in found]
    wrong = [name for name in asked() if name not in names]
    if wrong:
        return f"{VARIABLE} names {', '.join(wrong)}; there are: {', '.join(names)}"
    if asked():
        return Board(asked(), f"rails named by {VARIABLE}")
    known = next((b for b in BOARDS if set(b.total) <= set(names)), None)
    return known or (
        f"there are rails {', '.join(names)}, of a board that edgekit does not know: which of them add up is not known; "
        f"set {VARIABLE}=RAIL,RAIL to those that do"
    )


PART = Ina3221()
