"""Trees that imitate /sys, written from the kernel's documentation; each is a mapping from path to text.

RAPL: Documentation/power/powercap/powercap.rst. INA3221: Documentation/hwmon/ina3221.rst, and the iio driver of JetPack 4.
INA238: Documentation/hwmon/ina238.rst. Battery: Documentation/ABI/testing/sysfs-class-power. Raspberry Pi 5: the output of
`vcgencmd pmic_read_adc` as its owners publish it (github.com/leukipp/touchkio issue 35).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgekit.sysfs import Files

RANGE_UJ = 262143328850  # 2^32 - 1 units of 2^-14 J, as Intel desktops show it

PMIC = """\
 3V7_WL_SW_A current(0)=0.12199130A
   3V3_SYS_A current(1)=0.15224510A
   1V8_SYS_A current(2)=0.17273960A
  DDR_VDD2_A current(3)=0.11613570A
  DDR_VDDQ_A current(4)=0.02941200A
   1V1_SYS_A current(5)=0.21763240A
    0V8_SW_A current(6)=0.50748360A
  VDD_CORE_A current(7)=1.54489000A
   3V3_DAC_A current(17)=0.00000000A
   3V3_ADC_A current(18)=0.00018315A
   0V8_AON_A current(16)=0.00390720A
      HDMI_A current(22)=0.01709400A
 3V7_WL_SW_V volt(8)=3.60605200V
   3V3_SYS_V volt(9)=3.31931300V
   1V8_SYS_V volt(10)=1.79682400V
  DDR_VDD2_V volt(11)=1.10842400V
  DDR_VDDQ_V volt(12)=0.60549390V
   1V1_SYS_V volt(13)=1.10219700V
    0V8_SW_V volt(14)=0.80146440V
  VDD_CORE_V volt(15)=0.88725180V
   3V3_DAC_V volt(20)=3.31501500V
   3V3_ADC_V volt(21)=3.31684600V
   0V8_AON_V volt(19)=0.79882700V
      HDMI_V volt(23)=4.90440000V
     EXT5V_V volt(24)=4.87894000V
      BATT_V volt(25)=2.50512600V
"""


def write(root: Path, texts: Mapping[str, str | None]) -> Files:
    """The texts as files below `root`, each with the newline that the kernel ends it with."""
    for path, text in texts.items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return Files(root)


def rapl(zones: Mapping[str, tuple[str, int]], range_uj: int = RANGE_UJ) -> dict[str, str]:
    """Zone ("intel-rapl:0:1") -> (name, energy_uj)."""
    found = {}
    for zone, (name, energy_uj) in zones.items():
        folder = f"/sys/class/powercap/{zone}"
        found |= {f"{folder}/name": name, f"{folder}/energy_uj": str(energy_uj), f"{folder}/max_energy_range_uj": str(range_uj)}
    return found


def laptop() -> dict[str, str]:
    """A Core of 2020: the package with what is inside, its second face by MMIO, and the platform."""
    return rapl({
        "intel-rapl:0": ("package-0", 5_000_000), "intel-rapl:0:0": ("core", 2_000_000), "intel-rapl:0:1": ("uncore", 400_000),
        "intel-rapl:1": ("psys", 9_000_000), "intel-rapl-mmio:0": ("package-0", 5_000_000),
    })  # fmt: skip


def server() -> dict[str, str]:
    """Two packages with DRAM below each; the tree's order is not the order of the numbers."""
    return rapl({
        "intel-rapl:1": ("package-1", 30_000_000), "intel-rapl:1:0": ("dram", 3_000_000),
        "intel-rapl:0": ("package-0", 20_000_000), "intel-rapl:0:0": ("dram", 2_000_000),
    })  # fmt: skip


def ina3221(hwmon: int, rails: Mapping[int, tuple[str, int, int]], shunt_uohm: int = 5000) -> dict[str, str]:
    """Channel 1 to 3 -> (label, mV, mA); with the chip's channels 4 to 7, which are no rails."""
    folder = f"/sys/class/hwmon/hwmon{hwmon}"
    found = {f"{folder}/name": "ina3221", f"{folder}/update_interval": "3", f"{folder}/samples": "1"}
    for n, (label, mv, ma) in rails.items():
        found |= {
            f"{folder}/in{n}_label": label, f"{folder}/in{n}_input": str(mv), f"{folder}/curr{n}_input": str(ma),
            f"{folder}/shunt{n}_resistor": str(shunt_uohm), f"{folder}/in{n}_enable": "1",
            f"{folder}/in{n + 3}_input": str(ma * shunt_uohm // 1000),
        }  # fmt: skip
    total = sum(ma for _, _, ma in rails.values())
    return found | {f"{folder}/in7_label": "sum of shunt voltages", f"{folder}/in7_input": "900", f"{folder}/curr4_input": str(total)}


def by_driver(texts: Mapping[str, str], address: str = "1-0040") -> dict[str, str]:
    """The same chip as the i2c driver's folder shows it, where /sys/class/hwmon is not mounted."""
    return {p.replace("/sys/class/hwmon/", f"/sys/bus/i2c/drivers/ina3221/{address}/hwmon/"): t for p, t in texts.items()}


def jetpack4(rails: Mapping[str, tuple[int, int]], address: str = "6-0040") -> dict[str, str]:
    """Label -> (mV, mW), as the iio driver numbers them: from 0."""
    folder = f"/sys/bus/i2c/drivers/ina3221x/{address}/iio:device0"
    found = {}
    for n, (label, (mv, mw)) in enumerate(rails.items()):
        found |= {
            f"{folder}/rail_name_{n}": label, f"{folder}/in_power{n}_input": str(mw), f"{folder}/in_voltage{n}_input": str(mv),
            f"{folder}/in_current{n}_input": str(mw * 1000 // mv),
        }  # fmt: skip
    return found


def orin_nx() -> dict[str, str]:
    return ina3221(1, {1: ("VDD_IN", 4928, 1200), 2: ("VDD_CPU_GPU_CV", 4920, 400), 3: ("VDD_SOC", 4920, 300)})


def agx_orin(first: int = 3, second: int = 4) -> dict[str, str]:
    return ina3221(first, {1: ("VDD_GPU_SOC", 19904, 160), 2: ("VDD_CPU_CV", 19904, 720), 3: ("VIN_SYS_5V0", 4968, 1000)}, 2000) | ina3221(
        second, {1: ("NC", 0, 0), 2: ("VDDQ_VDD2_1V8AO", 4968, 220), 3: ("", 0, 0)}, 2000
    )


def agx_xavier() -> dict[str, str]:
    return ina3221(2, {1: ("GPU", 19000, 100), 2: ("CPU", 19000, 200), 3: ("SOC", 19000, 150)}) | ina3221(
        3, {1: ("CV", 19000, 0), 2: ("VDDRQ", 19000, 60), 3: ("SYS5V", 5000, 500)}
    )


def thor(vin_uw: int = 23_000_000) -> dict[str, str]:
    """Its GPU rail reads below zero while it is gated (-392 mW has been seen)."""
    rails = ina3221(5, {1: ("VDD_GPU", 19600, -20), 2: ("VDD_CPU_SOC_MSS", 19620, 332), 3: ("VIN_SYS_5V0", 5000, 1304)}, 2000)
    folder = "/sys/class/hwmon/hwmon2"
    ina238 = {
        f"{folder}/name": "ina238", f"{folder}/in0_input": "1", f"{folder}/in1_input": "20000",
        f"{folder}/curr1_input": str(vin_uw // 20_000), f"{folder}/power1_input": str(vin_uw),
    }  # fmt: skip
    return rails | ina238 | {"/proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0"}


def battery(name: str = "BAT0", **values: str) -> dict[str, str]:
    """A battery of the system; `values` are its files."""
    folder = f"/sys/class/power_supply/{name}"
    return {f"{folder}/{k}": v for k, v in {"type": "Battery", "present": "1", "status": "Discharging", **values}.items()}
