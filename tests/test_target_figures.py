"""The figures of all targets: each can be looked up, names mean one thing, and those that must agree do."""

from __future__ import annotations

import json
import stat

import pytest
from click.testing import CliRunner

from edgekit import figures, probe, target
from edgekit.cli.targets import command
from edgekit.figures import Figure
from edgekit.sysfs import HERE, Files, Snapshot

ALL = [target.load(name) for name in target.names()]
TYPED = [t for t in ALL if not (t.here or t.probed)]
EACH = pytest.mark.parametrize("device", TYPED, ids=lambda t: t.name)


@EACH
def test_figures_that_must_agree_do(device):
    for what, (stated, calculated) in figures.checks(device.figures).items():
        assert stated == pytest.approx(calculated, rel=0.05), what


@EACH
def test_a_stated_peak_is_held_against_cores_and_clock_or_the_file_says_why_not(device):
    peaks = [f.name for f in device.figures if f.name.startswith("compute_") and figures.base_of(f.name) == f.name and "_sparse" not in f.name]
    held = " ".join(figures.checks(device.figures))
    if peaks and not any(name.startswith("ops_per_cycle") for name in device.unknown):
        assert any(f"{name} = cores x clock" in held for name in peaks), "give cores, clock and ops_per_cycle, or say in [unknown] why not"


def test_the_checks_are_made_where_there_is_something_to_check():
    checked = {t.name: len(figures.checks(t.figures)) for t in TYPED}
    assert sum(n > 0 for n in checked.values()) >= 10
    assert checked["jetson_agx_orin_64"] >= 5


@EACH
def test_memory_power_and_a_peak_are_given_or_said_to_be_unknown(device):
    told = {f.name for f in device.figures} | set(device.unknown)
    assert {"memory"} <= told
    if device.kind in ("cpu", "gpu"):
        assert {"bandwidth", "power_max", "compute_f32", "compute_int8"} <= told


@EACH
def test_every_figure_and_every_gap_has_a_text_that_a_reader_can_follow(device):
    for f in device.figures:
        assert len(f.source) > 15, f
    assert all(len(why) > 15 for why in device.unknown.values())
    assert all(len(m.source) > 15 and m.command for m in device.power_modes)


def test_the_sparse_headline_of_nvidia_is_never_the_peak():
    for name, headline in (("jetson_orin_nano", 67_000), ("jetson_orin_nx_16", 157_000), ("jetson_agx_orin_64", 275_000), ("jetson_thor_t5000", 2_070_000)):
        assert target.load(name).figure("compute_int8").value <= headline / 2


def test_the_numbers_printed_for_whole_modules_are_the_sums_of_their_parts():
    for name, printed in (("jetson_orin_nx_16", 157_000), ("jetson_agx_orin_64", 275_000)):
        values = {f.name: f.value for f in target.load(name).figures}
        assert values["compute_int8_sparse"] + values["compute_int8_sparse_dla"] == pytest.approx(printed, rel=0.01)


def test_cores_of_another_module_are_caught():
    """One public registry gives the Orin NX 16GB 1792 cores, which are those of the AGX Orin 32GB."""
    given = [Figure("cores", 1792, "cores", "a public registry", "second-hand") if f.name == "cores" else f for f in target.load("jetson_orin_nx_16").figures]
    against = figures.contradictions(given)
    assert any(x.startswith("compute_int8 = cores x clock") for x in against)
    assert any("38500 is stated" in x for x in against)


def test_a_peak_may_be_stated_at_a_clock_of_its_own():
    values = {"cores": (132 * 128, "cores"), "clock": (1830, "MHz"), "clock_f32": (1980, "MHz"), "ops_per_cycle_f32": (2, "operations"),
              "compute_f32": (66_900, "GOP/s")}  # fmt: skip
    given = [Figure(name, value, unit, "a white paper", "specified") for name, (value, unit) in values.items()]
    assert not figures.contradictions(given)
    assert figures.contradictions([f for f in given if f.name != "clock_f32"])


@pytest.mark.parametrize("source", ["known", "from memory", "TODO", "x", "general knowledge of the field"])
def test_what_nobody_looked_up_is_no_source(source):
    with pytest.raises(ValueError, match="must be a document"):
        Figure("memory", 1, "MiB", source, "specified")


ORIN = {
    "/proc/sys/kernel/arch": "aarch64",
    "/proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp\nCPU implementer\t: 0x41\nprocessor\t: 1\n",
    "/proc/meminfo": "MemTotal:        7802476 kB\nMemFree: 1 kB",
    "/proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8",
    "/sys/devices/system/cpu/online": "0-3,6",
    "/proc/self/cgroup": "0::/job\n",
    "/sys/fs/cgroup/job/memory.max": "2147483648",
    "/sys/fs/cgroup/memory.max": "max",
    "/sys/fs/cgroup/job/cpu.max": "150000 100000",
    **{f"/sys/devices/system/cpu/cpu{i}/topology/core_id": str(i // 2) for i in range(4)},
    **{f"/sys/devices/system/cpu/cpu{i}/topology/physical_package_id": "0" for i in range(4)},
    **{f"/sys/devices/system/cpu/cpu{i}/cpufreq/cpuinfo_max_freq": "1728000" for i in range(4)},
    **{f"/sys/devices/system/cpu/cpu{i}/cache/index{n}/{what}": text
       for i in range(4)
       for n, level, kind, size, shared in ((0, "1", "Data", "64K", f"{i}"), (1, "1", "Instruction", "64K", f"{i}"),
                                            (2, "2", "Unified", "256K", f"{i}"), (3, "3", "Unified", "2M", "0-3"))
       for what, text in (("level", level), ("type", kind), ("size", size), ("shared_cpu_list", shared))},
}  # fmt: skip


def test_a_snapshot_of_another_machine_is_probed_like_this_one():
    machine = probe.machine(Snapshot(ORIN))
    assert (machine.architecture, machine.l4t, machine.instructions) == ("aarch64", "36.4.3", ("asimd", "asimdhp", "asimddp"))
    assert machine.board == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    values = {f.name: f.value for f in probe.probe(Snapshot(ORIN))}
    assert values == {
        "usable_cores": 5, "cores": 2, "threads_per_core": 2, "clock": 1728, "cpu_limit": 1.5, "memory": pytest.approx(7802476 / 1024),
        "memory_limit": 2048, "cache_l1d": 256, "cache_l2": 1024, "cache_l3": 2048, "on_chip_memory": 3072,
    }  # fmt: skip


def test_a_machine_that_says_nothing_has_no_figures():
    assert probe.probe(Snapshot({})) == ()
    assert probe.machine(Snapshot({})) == probe.Machine("", "", "", (), "", (), ())


def test_files_that_cannot_be_read_are_left_out():
    assert {f.name for f in probe.probe(Snapshot({**ORIN, "/proc/meminfo": None}))} == {f.name for f in probe.probe(Snapshot(ORIN))} - {"memory"}


def test_all_that_is_read_is_named_for_whoever_takes_a_snapshot():
    class Watched(Files):
        def __init__(self):
            super().__init__("/")
            self.asked = set()

        def read(self, path):
            self.asked.add(path)
            return super().read(path)

    tree = Watched()
    probe.probe(tree), probe.machine(tree), target.which_target(tree)
    named = {path for pattern in probe.PATTERNS for path in HERE.find(pattern)} | set(probe.PATTERNS)
    groups = {p for p in tree.asked if p.startswith("/sys/fs/cgroup/")}  # below the group that /proc/self/cgroup names
    assert tree.asked - groups <= named


def test_the_gpu_of_this_machine_is_asked_of_nvidia_smi(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '81559, 1980, 700.00'\necho '81559, 1980, 650.00'\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    values = {f.name: f.value for f in probe.probe()}
    assert (values["memory_gpu"], values["clock_gpu"], values["power_max_gpu"]) == (81559, 1980, 700)
    tool.write_text("#!/bin/sh\necho 'No devices were found'; exit 6\n")
    assert not any(f.name.endswith("_gpu") for f in probe.probe())
    tool.write_text("#!/bin/sh\necho '[N/A], 1300, [N/A]'\n")
    assert [f.name for f in probe.probe() if f.name.endswith("_gpu")] == ["clock_gpu"]


@pytest.mark.parametrize("name", ["", *target.names()])
def test_the_command_fits_eighty_columns(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = CliRunner().invoke(command, [name] if name else [])
    assert said.exit_code == 0, said.output
    assert max(map(len, said.output.splitlines())) <= 80
    for device in ALL if not name else [target.load(name)]:
        assert device.name in said.output and " ".join(device.label.split()) in " ".join(said.output.split())


def test_one_target_is_shown_with_each_figure_its_source_and_its_grade():
    said = " ".join(CliRunner().invoke(command, ["jetson_agx_orin_64"]).output.split())
    for f in target.load("jetson_agx_orin_64").figures:
        assert f"{f.name} {f.value:,.6g} {f.unit} {f.grade} {' '.join(f.source.split())}" in said
    assert "compute_f32_cpu - not available" in said


def test_the_json_says_what_is_only_estimated():
    rows = {row["name"]: row for row in json.loads(CliRunner().invoke(command, ["--json"]).output)}
    assert set(rows) == set(target.names())
    assert rows["stm32h743"]["estimate_only"] and not rows["host"]["estimate_only"]
    assert {f["name"] for f in rows["host"]["figures"]} >= {"usable_cores", "memory"}
    one = json.loads(CliRunner().invoke(command, ["jetson_thor_t5000", "--json"]).output)
    assert one["name"] == "jetson_thor_t5000" and one["power_modes"][0]["command"].startswith("sudo nvpmodel -m ")


def test_a_file_of_ones_own_is_shown_too(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('label = "mine"\nkind = "npu"\nruntimes = []\nno_runtime = "ask its maker"\nprecisions = ["int8"]\nmeter = "none"\n')
    said = CliRunner().invoke(command, [str(file)]).output
    assert "mine: mine" in said and "ask its maker" in said
