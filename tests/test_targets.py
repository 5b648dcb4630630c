"""A target file is read strictly, and every figure in it has its source."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgekit import registry, target
from edgekit.errors import EdgekitError
from edgekit.parts import Meter
from edgekit.prices import PROFILES
from edgekit.sysfs import Snapshot

GOOD = 'label = "x"\nkind = "cpu"\nruntimes = ["a"]\nprecisions = ["f32"]\nmeter = "none"\n'
FIGURE = '[[figures]]\nname = "cores"\nvalue = 1792\nunit = "cores"\nsource = "data sheet, page 1"\ngrade = "specified"\n'


@pytest.mark.parametrize("name", target.names())
def test_every_target_is_readable_and_names_things_that_exist(name):
    device = target.load(name)
    assert device.name == name
    assert device.meter in (*registry.names(Meter), "auto")
    assert set(device.prices) <= set(PROFILES)
    assert all(f.source.strip() and f.unit.strip() for f in device.known_figures())


def test_the_devices_of_the_plan_are_there():
    boards = {"jetson_orin_nano", "jetson_orin_nx_16", "jetson_agx_orin_64", "jetson_thor_t5000", "jetson_xavier_nx", "raspberry_pi_4", "raspberry_pi_5"}
    processors = {"intel_n100", "intel_core_ultra_7_155h", "host", "host_x86_64", "host_aarch64", "nvidia_a100_80"}
    chips = {"loihi1", "loihi2_sim", "akida_akd1000", "spinnaker2", "stm32h743", "esp32_s3"}
    assert boards | processors | chips <= set(target.names())


def test_the_host_is_probed_not_typed():
    figures = {f.name: f for f in target.load("host").known_figures()}
    assert figures["usable_cores"].value == len(os.sched_getaffinity(0))
    kib = int(next(x for x in Path("/proc/meminfo").read_text().splitlines() if x.startswith("MemTotal")).split()[1])
    assert figures["memory"].value == pytest.approx(kib / 1024, rel=0.01)
    assert {f.grade for f in figures.values()} == {"probed"}
    assert target.processor()


def test_a_probed_target_has_the_figures_of_the_machine_that_is_asked():
    other = Snapshot({"/proc/sys/kernel/arch": "aarch64", "/proc/meminfo": "MemTotal: 1048576 kB"})
    device = target.load("host_aarch64")
    assert {f.name: f.value for f in device.known_figures(other)} == {"memory": 1024}
    assert target.load("host_x86_64").known_figures(other) == ()


def test_a_runtime_on_the_processor_of_a_board_is_not_given_the_figures_of_its_gpu():
    device = target.load("jetson_agx_orin_64")
    assert device.figure("compute_f32", "tensorrt") is not None
    assert device.figure("compute_f32", "onnxruntime") is None
    assert "processor cores" in device.why_unknown("compute_f32", "onnxruntime")
    assert device.figure("bandwidth", "onnxruntime") == device.figure("bandwidth")  # they share the memory
    assert "no figure 'launch_overhead'" in device.why_unknown("launch_overhead")


def test_a_device_that_nothing_runs_on_says_what_to_do_instead():
    for name in ("stm32h743", "esp32_s3", "spinnaker2", "akida_akd1000"):
        device = target.load(name)
        assert device.estimate_only and "export" in device.no_runtime


def test_a_power_mode_scales_the_peaks_with_clock_and_cores():
    slow = target.load("jetson_orin_nx_16").in_power_mode("15W")
    values = {f.name: f for f in slow.figures}
    assert values["compute_int8"].value == pytest.approx(38_500 * 612 / 1173 * 512 / 1024)
    assert values["power_max"].value == 15 and values["cores"].value == 512
    assert values["compute_int8_dla"].value == 40_000  # another part, with a clock of its own
    assert "power mode 15W" in values["compute_int8"].source and values["compute_int8"].grade == "derived"
    assert target.load("jetson_orin_nano").in_power_mode("15W").figure("bandwidth").value == 68.3
    with pytest.raises(EdgekitError, match="no power mode of jetson_orin_nx_16 '20W'; there are: 10W, 15W"):
        target.load("jetson_orin_nx_16").in_power_mode("20W")


def test_the_number_of_a_power_mode_comes_from_the_device_itself():
    mode = next(m for m in target.load("jetson_orin_nano").power_modes if m.name == "MAXN_SUPER")
    conf = "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n"
    assert target.command_of(mode, Snapshot({"/etc/nvpmodel.conf": conf})) == "sudo nvpmodel -m 2"
    assert target.command_of(mode, Snapshot({})).startswith("sudo nvpmodel -m ID (ID: that of MAXN_SUPER in")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"/proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0"}, "jetson_orin_nano"),
        ({"/proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0"}, "jetson_orin_nano"),
        ({"/proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0000-super\0nvidia,tegra234\0"}, "jetson_orin_nx_16"),
        ({"/proc/device-tree/compatible": "nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0nvidia,tegra264"}, "jetson_thor_t5000"),
        ({"/proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"}, "raspberry_pi_5"),
        ({"/proc/device-tree/compatible": "raspberrypi,4-model-b\0brcm,bcm2711"}, "raspberry_pi_4"),
        ({"/proc/cpuinfo": "flags : lm avx2\nmodel name\t: Intel(R) N100\n"}, "intel_n100"),
        ({"/proc/cpuinfo": "flags : lm avx2\nmodel name\t: Intel(R) Core(TM) i3-N305\n"}, "host_x86_64"),
        ({"/proc/cpuinfo": "Features\t: fp asimd\nCPU implementer\t: 0x41\n"}, "host_aarch64"),
        ({"/proc/driver/nvidia/gpus/0000:07:00.0/information": "Model: \t\t NVIDIA A100-SXM4-80GB\nIRQ: 1"}, "nvidia_a100_80"),
        ({}, "host"),
    ],
)
def test_a_machine_is_recognised_by_what_it_calls_itself(files, expected):
    assert target.which_target(Snapshot(files)).target == expected


def test_a_module_with_half_the_cores_is_not_taken_for_its_bigger_sister():
    four_gb = {"/proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0004-super\0nvidia,p3767-0004\0nvidia,tegra234\0",
               "/proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
               "/proc/sys/kernel/arch": "aarch64"}  # fmt: skip
    found = target.which_target(Snapshot(four_gb))
    assert found.target == "host_aarch64" and "no target names it" in found.because


def test_the_prices_typed_in_a_target_are_those_that_estimates_use():
    figures = {f.name: f.value for f in target.load("loihi1").figures}
    prices = PROFILES["loihi1-davies2018"]
    assert prices.ac_dense is not None and prices.neuron_active is not None and prices.neuron_inactive is not None
    assert figures["energy_per_synop"] == prices.ac_dense.mid
    assert figures["energy_per_neuron_update_active"] == prices.neuron_active.mid
    assert figures["energy_per_neuron_update_inactive"] == prices.neuron_inactive.mid
    assert prices.message is not None and figures["energy_per_message"] == prices.message.mid


def test_loihi_2_is_a_simulator_and_has_no_price_of_its_own():
    device = target.load("loihi2_sim")
    assert device.simulated and device.prices[0] == "loihi2"
    assert PROFILES["loihi2"].reason
    assert not any(f.unit.endswith("J") for f in device.figures)
    assert "published no energy" in device.why_unknown("energy_per_synop")


def test_a_target_of_your_own_is_read_from_its_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(GOOD)
    assert target.load(file) == target.load(str(file)) == target.read(GOOD, "mine", "")


def test_a_wrong_name_lists_the_right_ones():
    with pytest.raises(EdgekitError, match="no target 'loihi3'; there are: .*host, .*loihi2_sim"):
        target.load("loihi3")
    with pytest.raises(EdgekitError, match="cannot read the target file nowhere/x.toml"):
        target.load("nowhere/x.toml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD + 'colour = "red"', "unknown key 'colour'"),
        (GOOD.replace('meter = "none"', ""), "'meter' is missing"),
        (GOOD.replace('"cpu"', '"toaster"'), "kind must be one of 'cpu'"),
        (GOOD.replace('["a"]', "[]"), "at least one runtime"),
        (GOOD + 'no_runtime = "buy another"', "and not both"),
        (GOOD.replace('["f32"]', "[]"), "at least one precision"),
        (GOOD + '[runs_on]\na = "tail"', "which part it uses"),
        (GOOD + '[unknown]\nmemroy = "x"', "unknown says of a figure"),
        (GOOD + FIGURE + '[unknown]\ncores = "x"', "unknown says of a figure"),
        (GOOD + FIGURE.replace("cores", "kores", 1), "no figure is called 'kores' \\(did you mean 'cores'"),
        (GOOD + FIGURE.replace('"cores"\ns', '"W"\ns'), "'cores' is given in cores, found 'W'"),
        (GOOD + FIGURE.replace("data sheet", "general knowledge"), "must be a document"),
        (GOOD + FIGURE.replace("specified", "probed"), "never of a typed figure"),
        (GOOD + FIGURE.replace("1792", "-1"), "not negative"),
        (GOOD.replace('"f32"', '"f31"'), r"precisions\[0\] must be one of"),
        (GOOD + 'name = "y"', "named by its file"),
        (GOOD + "here = 1", "here must be bool"),
        (GOOD + '[[figures]]\nname = "a"\nvalue = 1\nunit = "W"\ngrade = "measured"', "'source' is missing"),
        (GOOD + 2 * FIGURE, "given once"),
        (GOOD + "here = true\n" + FIGURE, "are probed"),
        (GOOD + "probed = true\n" + FIGURE, "are probed"),
        (GOOD + "[", "is not TOML"),
    ],
)
def test_a_target_that_does_not_fit_is_refused_with_its_file(text, says):
    with pytest.raises(EdgekitError, match=r"^targets/mine\.toml.*" + says):
        target.read(text, "mine", "targets/mine.toml")


def test_no_meter_gives_no_number_but_a_reason():
    meter = registry.find(Meter, "none")
    assert "no energy counter" in meter.available()
    with pytest.raises(EdgekitError, match="no energy counter"):
        meter.open()
