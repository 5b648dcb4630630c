"""Energy counters of x86 processors (RAPL) through the kernel's powercap files; Intel, and AMD since Zen.

Source: Documentation/power/powercap/powercap.rst and drivers/powercap/intel_rapl_common.c of Linux. The counter is a
model of the processor, not a sensor; it is updated about every millisecond. Zones: a package holds its core and uncore;
DRAM hangs below the package in the tree but is not inside its energy; psys is the platform and holds the package.
"""

from __future__ import annotations

from edgekit.errors import EdgekitError
from edgekit.meters._files import FilesReadout, Rail, number, product, text_of
from edgekit.parts import Channel, Meter, Readout
from edgekit.sysfs import HERE, Tree

# The class folder lists zones and their children flat. `intel-rapl-mmio` shows the package a second time, through other
# registers: it is taken only where it is the only one. The drivers of AMD and of new Xeons name their zones intel-rapl too.
ZONES = ("/sys/class/powercap/*-rapl:*/name", "/sys/class/powercap/*-rapl-mmio:*/name")
REFRESH_S = 0.001  # "approximately 1 ms": Intel SDM volume 3B, RAPL
UNIT_J = 2.0**-14  # energy unit of most processors, where the range that tells it is missing
COUNTER = 2.0**32  # the register's range in units: max_energy_range_uj is that range
ALLOW = "sudo chmod a+r /sys/class/powercap/*-rapl:*/energy_uj"


class Rapl(Meter):
    """The sum of all packages is the figure; the zones inside, DRAM and psys are shown beside it."""

    kind = "counter"

    def available(self, tree: Tree = HERE) -> str:
        zones = _zones(tree)
        packages = [path for path, name in zones.items() if _is_package(name)]
        if not packages:
            return (
                "no RAPL package in /sys/class/powercap (no x86 processor of the last years, a virtual machine, or the driver is "
                "not loaded: sudo modprobe intel_rapl_msr)"
            )
        for path in packages:
            try:
                text = tree.read(f"{path}/energy_uj")
            except PermissionError:
                return f"{path}/energy_uj is readable by root only; to allow it until the next start: {ALLOW}"
            except OSError as error:
                return f"{path}/energy_uj cannot be read: {error.strerror or error}; see `sudo dmesg`"
            if number(text) is None:
                return f"{path}/energy_uj holds {text!r} instead of a number; see `sudo dmesg`"
        return ""

    def open(self, tree: Tree = HERE) -> Readout:
        reason = self.available(tree)
        if reason:
            raise EdgekitError(reason)
        zones = _zones(tree)
        rails = [
            _rail(tree, path, name) for path, name in zones.items() if number(text_of(tree, f"{path}/energy_uj")) is not None
        ]
        total = [name for name in zones.values() if _is_package(name)]
        dram = any(r.channel.name.endswith("/dram") for r in rails)
        what = "processor package" if len(total) == 1 else f"{len(total)} processor packages"
        scope = f"{what} by RAPL (no board, no supply, {'DRAM apart' if dram else 'no DRAM'})"
        return FilesReadout(tree, scope, total, rails)


def _is_package(name: str) -> bool:
    return name.startswith("package") and "/" not in name


def _zones(tree: Tree) -> dict[str, str]:
    """Folder of a zone -> its name; of a zone inside another: that one's name, a slash, and its own."""
    found = next((names for names in (tree.find(pattern) for pattern in ZONES) if names), [])
    own = {path.removesuffix("/name"): text_of(tree, path) or "" for path in found}
    zones = {}
    for path in sorted(own, key=lambda p: [int(n) for n in p.rsplit("/", 1)[1].split(":")[1:] if n.isdigit()]):
        parent = own.get(path.rsplit(":", 1)[0])
        zones[path] = f"{parent}/{own[path]}" if parent else own[path]
    return zones


def _rail(tree: Tree, path: str, name: str) -> Rail:
    # The range is 0 where a driver does not know it: then a wrap cannot be undone, and a counter that falls is refused.
    wraps_at_j = (number(text_of(tree, f"{path}/max_energy_range_uj")) or 0.0) * 1e-6 or None
    resolution = wraps_at_j / COUNTER if wraps_at_j else UNIT_J
    channel = Channel(name, "energy", resolution, REFRESH_S, wraps_at_j, (f"{path}/energy_uj",))
    return Rail(channel, product(1e-6))


PART = Rapl()
