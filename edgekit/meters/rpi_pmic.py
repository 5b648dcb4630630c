"""The power chip of the Raspberry Pi 5: volts and amperes of twelve rails, through the firmware's `vcgencmd pmic_read_adc`.

The chip has no sensor of the input current: USB and HATs at 5 V and the losses of the converters are in no rail. People
have fitted the whole board to the sum of the rails with a USB meter; that is a fit, so it is said in a note and is not the figure.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping

from edgekit.errors import EdgekitError
from edgekit.meters._files import board, check_there
from edgekit.parts import Channel, Meter, Readout
from edgekit.sysfs import HERE, Tree

COMMAND = "vcgencmd pmic_read_adc"  # in trees of another machine and in parse(): the name of its output
HAS_SENSOR = ("Raspberry Pi 5", "Raspberry Pi Compute Module 5")
LINE = re.compile(r"^[ \t]*(\w+)_([AV])\b[^=\n]*=[ \t]*(-?[\d.]+)", re.MULTILINE)  # "  VDD_CORE_A current(7)=1.54489000A"
REFRESH_S = 0.2  # not known; each reading starts a process, and more than ten a second would load what is measured
STEP_W = 4e-3  # one step of the converters: 1 mA at 3.7 V, 3.7 mA at 0.9 V (steps of published outputs)
FIT = (
    "the whole board without USB and HATs, by a community fit and not measured: 1.1451 x this power + 0.5879 W "
    "(github.com/jfikar/RPi5-power, one board; another version of it says 1.1327 and 0.6444 W)"
)


class RpiPmic(Meter):
    """The sum of the rails is the figure, a lower bound of the board."""

    def available(self, tree: Tree = HERE) -> str:
        model = board(tree)
        if "Raspberry Pi" in model and not model.startswith(HAS_SENSOR):
            return f"{model} has no sensor of current (the Raspberry Pi 5 is the first that has); use an external meter (external_csv)"
        text = _ask(tree)
        if (tree is HERE and not shutil.which("vcgencmd")) or (text is None and "Raspberry Pi" not in model):
            return "no vcgencmd here (it is for the Raspberry Pi 5; there: sudo apt install raspi-utils)"
        if not _powers(text or ""):
            said = (text or "").strip().split("\n")[0] or "nothing"
            return f"`{COMMAND}` answers {said[:100]!r}; on a Raspberry Pi 5: sudo usermod -aG video $USER, then log in again"
        return ""

    def open(self, tree: Tree = HERE) -> Readout:
        reason = self.available(tree)
        if reason:
            raise EdgekitError(reason)
        return _Pmic(tree, list(_powers(_ask(tree) or "")))


class _Pmic(Readout):
    scope = "sum of the power chip's rails: a lower bound of the board (no USB, no HATs, no conversion losses, no supply)"
    notes = (FIT,)

    def __init__(self, tree: Tree, rails: list[str]) -> None:
        self.total = tuple(rails)
        self.channels = tuple(Channel(name, "power", STEP_W, REFRESH_S, files=(COMMAND,)) for name in rails)
        check_there(self.total, self.channels)
        self._tree = tree

    def read(self) -> tuple[float | None, ...]:
        return self.parse({COMMAND: _ask(self._tree)})

    def parse(self, texts: Mapping[str, str | None]) -> tuple[float | None, ...]:
        found = _powers(texts.get(COMMAND) or "")
        return tuple(found.get(c.name) for c in self.channels)


def _powers(text: str) -> dict[str, float]:
    """Watts of each rail that has both a voltage and a current; EXT5V and BATT have a voltage only."""
    seen: dict[tuple[str, str], float] = {}
    for name, kind, value in LINE.findall(text):
        try:
            seen[name, kind] = float(value)
        except ValueError:
            continue
    return {name: seen[name, "V"] * amperes for (name, kind), amperes in seen.items() if kind == "A" and (name, "V") in seen}


def _ask(tree: Tree) -> str | None:
    if tree is not HERE:
        try:
            return tree.read(COMMAND)
        except FileNotFoundError:
            return None
        except OSError:
            return ""
    try:
        done = subprocess.run(COMMAND.split(), capture_output=True, text=True, timeout=2, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr


PART = RpiPmic()
