"""Every meter gives the figures of its source, or a reason and no number: one contract for all, then what each must know."""

from __future__ import annotations

import errno
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import fake_sysfs as fake
import pytest

from edgekit import energy, registry
from edgekit.errors import EdgekitError
from edgekit.joules import Unmeasured
from edgekit.parts import Meter
from edgekit.sysfs import HERE, Files, Snapshot, Tree

S = 1_000_000_000


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("EDGEKIT_METER_CSV", "EDGEKIT_METER_CSV_OFFSET_S", "EDGEKIT_TOTAL_RAILS"):
        monkeypatch.delenv(name, raising=False)


def load(name: str) -> Meter:
    return registry.load(Meter, name)


# The contract ---------------------------------------------------------------------------------------------------------


@dataclass
class Stand:
    """A machine on which a meter works; what it reads there; how its source goes away, and how it is closed to us."""

    tree: Tree
    values: Mapping[str, float]  # of the channels of the total: J or W
    vanish: Callable[[], None]
    deny: Callable[[], Tree]
    denied_says: str  # part of the reason then


def of_files(texts: Mapping[str, str], secret: str, values: Mapping[str, float], says: str) -> Callable[..., Stand]:
    def stand(folder: Path, monkeypatch) -> Stand:
        tree = fake.write(folder / "root", texts)
        denied = Snapshot({p.removeprefix("/") if " " in p else p: None if re.search(secret, p) else t for p, t in texts.items()})
        return Stand(tree, values, lambda: shutil.rmtree(folder / "root"), lambda: denied, says)

    return stand


class FakeNvml(SimpleNamespace):
    """pynvml with two GPUs: the first counts energy, the second (older) tells its power only."""

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        super().__init__(gone=False, opened=0, fails_with="Not Supported")

    def nvmlInit(self):
        if self.gone:
            raise self.NVMLError("Driver Not Loaded")
        self.opened += 1

    def nvmlShutdown(self):
        self.opened -= 1

    def nvmlDeviceGetCount(self):
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetName(self, handle):
        return ("NVIDIA A10", b"Tesla P4")[handle]  # bytes, as older versions give it

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        if self.gone or handle == 1:
            raise self.NVMLError(self.fails_with)
        return 12_345

    def nvmlDeviceGetPowerUsage(self, handle):
        if self.gone:
            raise self.NVMLError(self.fails_with)
        return 23_456


def stand_nvml(folder: Path, monkeypatch) -> Stand:
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)

    def vanish():
        nvml.gone = True

    def deny():
        nvml.gone = True
        return HERE

    return Stand(HERE, {"GPU 0 NVIDIA A10": 12.345, "GPU 1 Tesla P4": 23.456}, vanish, deny, "nvidia-smi")


def stand_csv(folder: Path, monkeypatch) -> Stand:
    file = folder / "meter.csv"
    file.write_text("time_s,power_w\n" + "".join(f"{1_800_000_000 + i / 10},{5.25}\n" for i in range(20)))
    monkeypatch.setenv("EDGEKIT_METER_CSV", str(file))

    def deny():
        file.unlink()
        file.mkdir()  # root may read any file, but nobody reads a folder as one
        return HERE

    return Stand(HERE, {"external": 5.25}, file.unlink, deny, "cannot read")


STANDS = {
    "rapl": of_files(fake.laptop(), "energy_uj", {"package-0": 5.0}, "sudo chmod a+r /sys/class/powercap/*-rapl:*/energy_uj"),
    "ina3221": of_files(fake.orin_nx(), "_input", {"VDD_IN": 4.928 * 1.2}, "cat /sys/class/hwmon/hwmon1/in1_input"),
    "ina238": of_files(fake.thor(), "power1_input", {"VIN": 23.0}, "cat /sys/class/hwmon/hwmon2/power1_input"),
    "rpi_pmic": of_files({"/vcgencmd pmic_read_adc": fake.PMIC}, "vcgencmd", {"VDD_CORE": 1.54489 * 0.8872518}, "usermod -aG video"),
    "battery": of_files(fake.battery(power_now="6500000", energy_now="30000000"), "_now", {"BAT0": 6.5}, "external meter"),
    "nvml": stand_nvml,
    "external_csv": stand_csv,
}


@pytest.fixture(params=sorted(STANDS))
def stand(request, tmp_path, monkeypatch) -> tuple[str, Stand]:
    return request.param, STANDS[request.param](tmp_path, monkeypatch)


def test_every_meter_is_held_by_the_contract():
    assert {*STANDS, "none"} == set(registry.names(Meter))


@pytest.mark.parametrize("name", registry.names(Meter))
def test_where_there_is_nothing_a_meter_gives_one_sentence_and_no_number(name, tmp_path):
    tree = Files(tmp_path)
    reason = load(name).available(tree)
    assert len(reason) > 20 and "\n" not in reason and not reason.endswith(".") and "None" not in reason
    with pytest.raises(EdgekitError, match=re.escape(reason)):
        load(name).open(tree)
    meter, why = energy.choose(name, tree)
    assert meter is None and reason in why


def test_a_meter_reads_what_its_source_says(stand):
    name, here = stand
    meter = load(name)
    assert meter.available(here.tree) == ""
    readout = meter.open(here.tree)
    read = dict(zip((c.name for c in readout.channels), readout.read(), strict=True))
    assert {n: read[n] for n in here.values} == pytest.approx(here.values)
    readout.close()


def test_a_readout_is_described_for_its_reader(stand):
    name, here = stand
    meter, readout = load(name), load(name).open(here.tree)
    names = [c.name for c in readout.channels]
    assert len(set(names)) == len(names) and readout.total and set(readout.total) <= set(names)
    assert readout.scope and all(c.resolution >= 0 and c.refresh_s >= 0 for c in readout.channels)
    assert meter.kind == ("counter" if name == "rapl" else "measured")
    assert not any("estimate" in n or "fit" in n for n in names)
    assert 0.01 <= energy.interval_s(readout.channels) <= 1.0


def test_files_that_another_machine_has_read_give_the_same(stand):
    """A device without Python is read by `cat`: its files are found in a snapshot, and their texts are parsed here."""
    name, here = stand
    readout = load(name).open(here.tree)
    paths = [p for c in readout.channels for p in c.files]
    if not paths:
        with pytest.raises(EdgekitError, match="no set of files"):
            readout.parse({})
        return
    texts = {p: here.tree.read(p) for p in paths}
    assert readout.parse(texts) == readout.read()
    assert readout.parse({p: None for p in paths}) == readout.parse({}) == (None,) * len(readout.channels)
    assert set(readout.parse(dict.fromkeys(paths, "N/A"))) == {None}


def test_a_source_that_may_not_be_read_gives_the_reason_and_what_to_do(stand):
    name, here = stand
    tree = here.deny()
    assert here.denied_says in load(name).available(tree)
    with pytest.raises(EdgekitError, match=re.escape(here.denied_says)):
        load(name).open(tree)


def test_a_sensor_that_vanishes_in_the_run_leaves_no_figure(stand):
    name, here = stand
    readout = load(name).open(here.tree)
    before = readout.read()
    here.vanish()
    after = readout.read()
    assert {v for c, v in zip(readout.channels, after, strict=True) if c.name in readout.total} == {None}
    rising = [v * (1 + i / 1000) if (v := before[0]) and readout.channels[0].quantity == "energy" else before[0] for i in range(250)]
    readings = [(i * S // 50, (value, *before[1:])) for i, value in enumerate(rising)] + [(i * S // 50, after) for i in range(250, 300)]
    with pytest.raises(Unmeasured, match=r"stopped answering 3\.\d+ s into the window of 4 s"):
        energy.account(load(name), readout, readings, (0, S, 5 * S, 6 * S), 10)


def test_the_energy_of_a_whole_run_follows_from_each_meter(stand):
    """The same readings again and again: a power times the time, or a counter that did not move, which is refused."""
    name, here = stand
    readout = load(name).open(here.tree)
    values, edges = readout.read(), (0, 200 * S, 600 * S, 800 * S)  # long enough for a battery
    readings = [(i * S // 10, values) for i in range(-5, 8010)]
    if any(c.quantity == "energy" for c in readout.channels if c.name in readout.total):
        with pytest.raises(Unmeasured, match="did not move in 400 s"):
            energy.account(load(name), readout, readings, edges, 1000)
        return
    found = energy.account(load(name), readout, readings, edges, 400_000)
    total = sum(v for c, v in zip(readout.channels, values, strict=True) if c.name in readout.total)
    assert found.gross_mj == pytest.approx(total) and found.gross_mj_low <= total <= found.gross_mj_high
    assert found.meter == name and found.net_mj == pytest.approx(0, abs=1e-9)
    assert found.notes == tuple(getattr(readout, "notes", ()))


# RAPL -----------------------------------------------------------------------------------------------------------------


def test_only_packages_add_up_and_the_rest_is_shown_by_the_kernels_names():
    readout = load("rapl").open(Snapshot(fake.laptop()))
    assert [c.name for c in readout.channels] == ["package-0", "package-0/core", "package-0/uncore", "psys"]
    assert readout.total == ("package-0",) and readout.read() == pytest.approx((5.0, 2.0, 0.4, 9.0))
    assert readout.scope == "processor package by RAPL (no board, no supply, no DRAM)"


def test_two_packages_add_up_and_their_memory_stands_apart():
    readout = load("rapl").open(Snapshot(fake.server()))
    assert [c.name for c in readout.channels] == ["package-0", "package-0/dram", "package-1", "package-1/dram"]
    assert readout.total == ("package-0", "package-1")
    assert readout.scope == "2 processor packages by RAPL (no board, no supply, DRAM apart)"


def test_the_second_face_of_a_package_by_mmio_is_not_counted_twice_but_serves_alone():
    only = {p: t for p, t in fake.laptop().items() if "mmio" in p}
    readout = load("rapl").open(Snapshot(only))
    assert [c.files for c in readout.channels] == [("/sys/class/powercap/intel-rapl-mmio:0/energy_uj",)]


def test_the_range_of_a_counter_tells_where_it_wraps_and_how_fine_it_is():
    (channel,) = load("rapl").open(Snapshot(fake.rapl({"intel-rapl:0": ("package-0", 7)}))).channels
    assert channel.wraps_at_j == pytest.approx(262143.32885) and channel.resolution == pytest.approx(2.0**-14, rel=1e-5)
    (channel,) = load("rapl").open(Snapshot(fake.rapl({"intel-rapl:0": ("package-0", 7)}, range_uj=65532610987))).channels
    assert channel.resolution == pytest.approx(15.26e-6, rel=1e-3)
    (channel,) = load("rapl").open(Snapshot(fake.rapl({"intel-rapl:0": ("package-0", 7)}, range_uj=0))).channels
    assert channel.wraps_at_j is None


def test_a_zone_inside_that_is_closed_is_left_out():
    texts = {p: None if p.endswith("intel-rapl:0:0/energy_uj") else t for p, t in fake.laptop().items()}
    assert [c.name for c in load("rapl").open(Snapshot(texts)).channels] == ["package-0", "package-0/uncore", "psys"]


def test_a_counter_that_gives_an_error_is_named():
    class Broken(Snapshot):
        def read(self, path):
            if path.endswith("energy_uj"):
                raise OSError(errno.EIO, "Input/output error", path)
            return super().read(path)

    assert "energy_uj cannot be read: Input/output error" in load("rapl").available(Broken(fake.laptop()))
    texts = fake.laptop() | {"/sys/class/powercap/intel-rapl:0/energy_uj": "n/a"}
    assert "holds 'n/a' instead of a number" in load("rapl").available(Snapshot(texts))


def test_zones_without_a_package_are_no_meter():
    assert "no RAPL package" in load("rapl").available(Snapshot(fake.rapl({"intel-rapl:0": ("psys", 1)})))


# Jetson ---------------------------------------------------------------------------------------------------------------

NANO = fake.jetpack4({"POM_5V_IN": (5096, 2500), "POM_5V_GPU": (5096, 800), "POM_5V_CPU": (5096, 600)})
XAVIER_NX_4 = fake.jetpack4({"VDD_IN": (5048, 4100), "VDD_CPU_GPU_CV": (5048, 900), "VDD_SOC": (5048, 1000)}, "7-0040")


@pytest.mark.parametrize(
    ("texts", "rails", "total", "watts", "scope"),
    [
        (NANO, ["POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"], ("POM_5V_IN",), 2.5, "board input POM_5V_IN (no supply)"),
        (XAVIER_NX_4, ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"], ("VDD_IN",), 4.1, "module input VDD_IN (no carrier board, no supply)"),
        (fake.orin_nx(), ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"], ("VDD_IN",), 5.9136, "module input VDD_IN (no carrier board, no supply)"),
        (
            fake.agx_xavier(), ["GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"], ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
            19 * 0.51 + 2.5, "sum of the module's six rails (no carrier board, no supply): GPU + CPU + SOC + CV + VDDRQ + SYS5V",
        ),
        (
            fake.agx_orin(), ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"], ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
            19.904 * 0.88 + 4.968, "sum of rails: a lower bound of the module (no carrier board, no supply): VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0",
        ),
    ],
    ids=["Nano, JetPack 4", "Xavier NX, JetPack 4", "Orin NX", "AGX Xavier", "AGX Orin"],
)  # fmt: skip
def test_a_jetson_has_its_own_rails_and_its_own_total(texts, rails, total, watts, scope):
    readout = load("ina3221").open(Snapshot(texts))
    assert [c.name for c in readout.channels] == rails  # as the kernel labels them: none is called CPU that is more
    assert readout.total == total and readout.scope == scope
    read = dict(zip(rails, readout.read(), strict=True))
    assert sum(read[n] for n in total) == pytest.approx(watts)
    assert all(c.quantity == "power" for c in readout.channels)


def test_numbers_of_hwmon_devices_may_change_and_labels_decide():
    found = [load("ina3221").open(Snapshot(fake.agx_orin(*numbers))) for numbers in ((3, 4), (7, 0))]
    assert found[0].total == found[1].total and found[0].channels != found[1].channels
    by_name = [dict(zip((c.name for c in r.channels), r.read(), strict=True)) for r in found]
    assert by_name[0] == by_name[1]


def test_the_channel_that_sums_currents_and_those_without_connection_are_no_rails():
    files = [p for c in load("ina3221").open(Snapshot(fake.agx_orin())).channels for p in c.files]
    assert not [p for p in files if re.search(r"in[4-7]_|curr4_", p)] and len(files) == 8


def test_the_drivers_own_folder_serves_where_the_class_is_not_mounted():
    texts = fake.by_driver(fake.orin_nx())
    readout = load("ina3221").open(Snapshot(texts))
    assert readout.read() == load("ina3221").open(Snapshot(fake.orin_nx())).read()
    both = load("ina3221").open(Snapshot(texts | fake.orin_nx()))
    assert len(both.channels) == 3  # the same chip


def test_the_step_of_a_rail_follows_from_its_shunt():
    """40 uV across 2 mOhm are 20 mA, at 19.9 V 398 mW; and 8 mV at 0.16 A."""
    channels = {c.name: c for c in load("ina3221").open(Snapshot(fake.agx_orin())).channels}
    assert channels["VDD_GPU_SOC"].resolution == pytest.approx(0.02 * 19.904 + 0.008 * 0.16)
    assert channels["VDD_GPU_SOC"].refresh_s == 0.003


def test_two_rails_of_one_name_are_told_apart():
    texts = fake.ina3221(1, {1: ("VDD_IN", 5000, 100)}) | fake.ina3221(2, {1: ("VDD_IN", 5000, 300)})
    assert [c.name for c in load("ina3221").open(Snapshot(texts)).channels] == ["VDD_IN", "VDD_IN (hwmon2)"]


def test_a_board_that_is_not_known_is_refused_until_a_person_says_what_adds_up(monkeypatch):
    tree = Snapshot(fake.ina3221(1, {1: ("MAIN", 12000, 500), 2: ("CORE", 1000, 900)}))
    assert "rails MAIN, CORE, of a board that edgekit does not know" in load("ina3221").available(tree)
    monkeypatch.setenv("EDGEKIT_TOTAL_RAILS", "MAIN")
    readout = load("ina3221").open(tree)
    assert readout.total == ("MAIN",) and readout.read() == pytest.approx((6.0, 0.9)) and "EDGEKIT_TOTAL_RAILS" in readout.scope
    monkeypatch.setenv("EDGEKIT_TOTAL_RAILS", "MAIN, VDD_X")
    assert load("ina3221").available(tree) == "EDGEKIT_TOTAL_RAILS names VDD_X; there are: MAIN, CORE"


def test_a_thor_is_measured_at_its_input_and_its_rails_are_not_added():
    readout = load("ina238").open(Snapshot(fake.thor()))
    read = dict(zip((c.name for c in readout.channels), readout.read(), strict=True))
    assert readout.total == ("VIN",)
    assert read == pytest.approx({"VIN": 23.0, "VDD_GPU": -0.392, "VDD_CPU_SOC_MSS": 6.51384, "VIN_SYS_5V0": 6.52})
    assert readout.scope == "board input VIN: module and carrier board (no supply) of NVIDIA Jetson AGX Thor Developer Kit"
    assert energy.choose("auto", Snapshot(fake.thor()))[0] is load("ina238")


def test_a_thor_without_its_input_sensor_has_a_lower_bound():
    texts = {p: t for p, t in fake.thor().items() if "hwmon2" not in p}
    readout = load("ina3221").open(Snapshot(texts))
    assert readout.total == ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0") and "a lower bound" in readout.scope
    assert energy.choose("auto", Snapshot(texts))[0] is load("ina3221")


def test_an_ina238_of_another_board_is_no_total_until_a_person_says_so(monkeypatch):
    texts = {p: t for p, t in fake.thor().items() if "model" not in p}
    assert "there is ina238 hwmon2, on a line that edgekit does not know" in load("ina238").available(Snapshot(texts))
    monkeypatch.setenv("EDGEKIT_TOTAL_RAILS", "ina238 hwmon2")
    assert load("ina238").open(Snapshot(texts)).total == ("ina238 hwmon2",)
    monkeypatch.delenv("EDGEKIT_TOTAL_RAILS")
    assert load("ina238").open(Snapshot(texts | {"/sys/class/hwmon/hwmon2/label": "VIN"})).total == ("VIN",)


# Raspberry Pi ---------------------------------------------------------------------------------------------------------


def test_the_rails_of_a_raspberry_pi_5_are_multiplied_in_pairs():
    readout = load("rpi_pmic").open(Snapshot({"vcgencmd pmic_read_adc": fake.PMIC}))
    rails = [c.name for c in readout.channels]
    assert len(rails) == 12 and not {"EXT5V", "BATT"} & set(rails) and readout.total == tuple(rails)
    numbers = [float(x) for x in re.findall(r"=([\d.]+)[AV]", fake.PMIC)]  # 12 currents, 12 voltages in the same order, 2 more
    assert sum(readout.read()) == pytest.approx(sum(a * v for a, v in zip(numbers[:12], numbers[12:24], strict=True)))
    assert 2 < sum(readout.read()) < 4


def test_the_fit_to_the_whole_board_is_a_note_and_no_figure():
    readout = load("rpi_pmic").open(Snapshot({"vcgencmd pmic_read_adc": fake.PMIC}))
    assert "lower bound" in readout.scope
    assert "by a community fit and not measured: 1.1451 x this power + 0.5879 W" in readout.notes[0]


def test_the_short_form_of_other_firmware_is_read_too():
    text = "VDD_CORE_V=0.8750V\nVDD_CORE_A=1.2340A\nEXT5V_V=5.1V\n"
    readout = load("rpi_pmic").open(Snapshot({"vcgencmd pmic_read_adc": text}))
    assert readout.read() == pytest.approx((0.875 * 1.234,))


def test_a_raspberry_pi_4_has_no_sensor_of_current():
    tree = Snapshot({"/proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0"})
    assert load("rpi_pmic").available(tree).startswith("Raspberry Pi 4 Model B Rev 1.4 has no sensor of current")


def test_vcgencmd_is_run_on_the_machine_itself(tmp_path, monkeypatch):
    (tmp_path / "vcgencmd").write_text(f"#!/bin/sh\n[ \"$1\" = pmic_read_adc ] || exit 1\ncat <<'END'\n{fake.PMIC}END\n")
    (tmp_path / "vcgencmd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    readout = load("rpi_pmic").open()
    assert readout.read() == load("rpi_pmic").open(Snapshot({"vcgencmd pmic_read_adc": fake.PMIC})).read()
    (tmp_path / "vcgencmd").write_text("#!/bin/sh\necho \"Can't open device file: /dev/vcio\"; exit 255\n")
    assert set(readout.read()) == {None}
    assert "answers \"Can't open device file: /dev/vcio\"; on a Raspberry Pi 5: sudo usermod" in load("rpi_pmic").available()


# Battery --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "quantity", "value"),
    [
        ({"power_now": "6500000"}, "power", 6.5),
        ({"power_now": "-6500000"}, "power", 6.5),
        ({"current_now": "500000", "voltage_now": "12000000"}, "power", 6.0),
        ({"current_now": "-500000", "voltage_now": "12000000"}, "power", 6.0),
        ({"energy_now": "30000000"}, "energy", -30 * 3600),
        ({"charge_now": "2500000", "voltage_now": "12000000"}, "energy", -30 * 3600),
    ],
    ids=["power", "negative power", "current", "negative current", "energy", "charge"],
)
def test_a_battery_is_read_by_whatever_it_tells(files, quantity, value):
    readout = load("battery").open(Snapshot(fake.battery(**files)))
    assert readout.channels[0].quantity == quantity and readout.read() == (pytest.approx(value),)


def test_what_a_battery_has_lost_is_energy_that_rises(tmp_path):
    readout = load("battery").open(fake.write(tmp_path, fake.battery(energy_now="30000000")))
    (before,) = readout.read()
    fake.write(tmp_path, fake.battery(energy_now="29990000"))
    assert readout.read()[0] - before == pytest.approx(36)


def test_a_charge_is_counted_at_the_voltage_of_the_start(tmp_path):
    """With the voltage of each moment, a sag by 1 % would look like 1 % of the whole charge used."""
    readout = load("battery").open(fake.write(tmp_path, fake.battery(charge_now="2500000", voltage_now="12000000")))
    (before,) = readout.read()
    fake.write(tmp_path, fake.battery(charge_now="2490000", voltage_now="11880000"))
    assert readout.read()[0] - before == pytest.approx(0.01 * 12 * 3600)


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", "Unknown"])
def test_a_battery_on_the_charger_is_refused_and_one_that_is_plugged_in_stops_answering(status, tmp_path):
    plugged = fake.battery(power_now="6500000", status=status)
    assert load("battery").available(Snapshot(plugged)).startswith(f"BAT0 is {status.lower()}: its power is known only while")
    readout = load("battery").open(fake.write(tmp_path, fake.battery(power_now="6500000")))
    fake.write(tmp_path, plugged)
    assert readout.read() == (None,)


def test_the_battery_of_a_mouse_is_none_of_the_machine():
    mouse = fake.battery("hidpp_battery_0", scope="Device", power_now="1000")
    assert "no battery of the system" in load("battery").available(Snapshot(mouse))
    readout = load("battery").open(Snapshot(mouse | fake.battery(power_now="6500000", scope="System")))
    assert readout.total == ("BAT0",)


def test_of_two_batteries_the_one_in_use_counts():
    texts = fake.battery("BAT0", power_now="0", status="Not charging") | fake.battery("BAT1", power_now="9000000")
    readout = load("battery").open(Snapshot(texts))
    assert readout.total == ("BAT1",) and readout.read() == (9.0,)


# NVML -----------------------------------------------------------------------------------------------------------------


def test_a_gpu_without_an_energy_counter_tells_its_power(tmp_path, monkeypatch):
    readout = stand_nvml(tmp_path, monkeypatch) and load("nvml").open()
    assert [(c.quantity, c.refresh_s) for c in readout.channels] == [("energy", 0.1), ("power", 1.0)]
    assert readout.scope == "2 GPU boards by NVML (no host processor, no supply)"
    readout.close()
    assert sys.modules["pynvml"].opened == 0


def test_a_gpu_that_tells_nothing_is_refused_by_name(monkeypatch):
    """A Jetson's driver initialises, counts one GPU, and supports no reading."""
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(FakeNvml, "nvmlDeviceGetTotalEnergyConsumption", lambda self, handle: self.nvmlDeviceGetPowerUsage(handle))
    monkeypatch.setattr(FakeNvml, "nvmlDeviceGetPowerUsage", lambda self, handle: (_ for _ in ()).throw(self.NVMLError("Not Supported")))
    assert load("nvml").available() == (
        "GPU 0 NVIDIA A10 tells neither energy nor power (Not Supported); measure with an external meter (external_csv)"
    )
    assert nvml.opened == 0


def test_without_a_gpu_or_a_library_nvml_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    monkeypatch.setattr(FakeNvml, "nvmlDeviceGetCount", lambda self: 0)
    assert load("nvml").available() == "the NVIDIA driver shows no GPU; in a container, start it with --gpus all"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert load("nvml").available() == "pynvml is not installed: pip install 'edgekit[nvml]'"


def test_the_real_library_gives_readings_or_a_reason():
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    reason = load("nvml").available()
    if reason:
        with pytest.raises(EdgekitError, match=re.escape(reason)):
            load("nvml").open()
    else:
        readout = load("nvml").open()
        assert all(v is not None and v > 0 for v in readout.read())
        readout.close()
