"""The rails of INA3221 chips, as the kernel labels them, from any of the three places where Jetson kernels show them.

Sources: Documentation/hwmon/ina3221.rst and drivers/hwmon/ina3221.c of Linux; "Jetson Linux Developer Guide", power
monitors, for the older iio driver of JetPack 4. Numbers of hwmon devices change at each start, so labels decide.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.meters._files import Rail, number, product, text_of
from edgekit.parts import Channel
from edgekit.sysfs import Tree

CLASS = "/sys/class/hwmon/hwmon*/name"
DRIVER = "/sys/bus/i2c/drivers/ina3221*/*/hwmon/hwmon*/in[123]_label"
IIO = "/sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_*"  # JetPack 4
SHUNT_STEP_V, BUS_STEP_V = 40e-6, 8e-3  # one step of the 13-bit converters: drivers/hwmon/ina3221.c
SHUNT_OHM = 2e-3  # where the driver does not say it: the smallest on Jetson boards, so the largest step
SUPPLY_V = 20.0  # where the driver does not say it: the highest that Jetson modules take
UNUSED = ("", "NC")  # "no connection"


def rails(tree: Tree) -> list[Rail]:
    """Rails 1 to 3 of each chip that have a label. The sum channel (in7, curr4) is none: it adds currents at different voltages."""
    labels = [
        path
        for name in tree.find(CLASS) if text_of(tree, name) == "ina3221"
        for path in tree.find(name.removesuffix("name") + "in[123]_label")
    ]  # fmt: skip
    found: dict[str, Rail] = {}
    for path in labels or tree.find(DRIVER):
        if label := _label(tree, path, found):
            found[label] = _hwmon_rail(tree, label, path.removesuffix("_label"))
    for path in [] if found else tree.find(IIO):
        if label := _label(tree, path, found):
            folder, _, index = path.rpartition("/rail_name_")
            power = f"{folder}/in_power{index}_input"
            volts = (number(text_of(tree, f"{folder}/in_voltage{index}_input")) or 0.0) * 1e-3 or SUPPLY_V
            step = SHUNT_STEP_V / SHUNT_OHM * volts
            found[label] = Rail(Channel(label, "power", step, files=(power,)), product(1e-3))
    return list(found.values())


def _label(tree: Tree, path: str, known: Mapping[str, Rail]) -> str:
    """The label of a rail, empty for none; with its folder where another chip has a rail of that name."""
    label = text_of(tree, path) or ""
    if label in UNUSED:
        return ""
    return f"{label} ({path.split('/')[-2]})" if label in known else label


def _hwmon_rail(tree: Tree, label: str, base: str) -> Rail:
    """`base` is .../in2: bus voltage in mV there, current in mA in .../curr2. The product is no register of the chip."""
    folder, _, channel = base.rpartition("/in")
    volts, amperes = f"{base}_input", f"{folder}/curr{channel}_input"
    shunt_ohm = (number(text_of(tree, f"{folder}/shunt{channel}_resistor")) or 0.0) * 1e-6 or SHUNT_OHM
    v, a = (abs(number(text_of(tree, path)) or 0.0) * 1e-3 for path in (volts, amperes))
    step = SHUNT_STEP_V / shunt_ohm * v + BUS_STEP_V * a
    refresh_s = (number(text_of(tree, f"{folder}/update_interval")) or 0.0) * 1e-3
    return Rail(Channel(label, "power", step, refresh_s, files=(volts, amperes)), product(1e-6))
