"""A profile in real processes on real engines: what it says, when it says that it cannot be trusted, and two bundles in turns."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from test_scenarios import a_plain_one, a_stream
from toy_bundles import bundle, graph, tensor

from edgekit import examine, profile, registry, summary
from edgekit.bundle import Bundle, Golden
from edgekit.errors import EdgekitError
from edgekit.measurement import Conditions, Measurement
from edgekit.parts import Runtime
from edgekit.process_run import Facts, ProcessRun, Request
from edgekit.program import Phase, Program, value
from edgekit.signature import Signature
from edgekit.summary import Setup
from edgekit.sysfs import Files

QUICK = Request("onnxruntime", seconds=0.1, processes=2)
FACTS = Facts("engine 1", 10.0, 1.0, 60, True, 50.0, 80.0, pinned_to=1)
SETUP = Setup("engine 1", "a device", "host", 1)


def a_product(folder: Path, size: int) -> Bundle:
    """y = x W with W of size x size: its time grows with the square."""
    random = np.random.default_rng(0)
    weights = random.normal(size=(size, size)).astype(np.float32) / size
    made = graph((tensor("x", 1, size),), (tensor("y", 1, size),), [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weights})
    x = random.normal(size=(1, size)).astype(np.float32)
    program = Program((Phase("g", inputs={"x": value("x")}, outputs={"y": "y"}),))
    return bundle(folder, {"g": made}, Signature((tensor("x", 1, size),), (tensor("y", 1, size),)), program, golden=Golden({"x": x}, {"y": x @ weights}))


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    made = a_product(tmp_path_factory.mktemp("product") / "b", 256)
    assert examine.verify(made, "onnxruntime", 0).passed and examine.verify(made, "openvino", 0).passed
    return made


def test_what_was_timed_is_stored_with_the_state_of_the_machine_beside_each_sample(product: Bundle) -> None:
    found = examine.profile(product, dataclasses.replace(QUICK, processes=5, seconds=0.5))
    assert found.processes == 5 and found.latency_p50_low_ms is not None
    assert found.latency_p50_low_ms <= found.latency_p50_ms <= (found.latency_p50_high_ms or 0)
    assert found.overhead_us is not None and 0 < found.overhead_us < 50
    assert found.percentiles[0].value_ms is not None and found.histogram is not None
    assert sum(found.histogram.counts) + found.histogram.above == found.samples
    rows = profile_rows(product)
    assert set(rows) == {"process", "start_ns", "wall_ns", "cpu_ns", "preempted", "pressure", "clock_mhz", "temperature_c"}
    assert set(rows["process"].tolist()) == set(range(5)) and int(rows["preempted"].sum()) == found.preempted_samples
    assert np.all(rows["start_ns"] >= 0) and np.all(rows["wall_ns"] > 0)
    assert Measurement.from_json(json.loads(json.dumps(found.to_json()))) == found


def profile_rows(made: Bundle) -> dict[str, np.ndarray]:
    from edgekit.files import load_tensors

    return load_tensors(made.folder / "evidence" / "samples-onnxruntime-1.safetensors")


def test_openvino_tells_its_own_time_which_is_a_part_of_ours(product: Bundle) -> None:
    found = examine.profile(product, dataclasses.replace(QUICK, runtime="openvino"))
    assert found.latency_engine_p50_ms is not None and 0 < found.latency_engine_p50_ms < found.latency_p50_ms
    assert examine.profile(product, QUICK).latency_engine_p50_ms is None


def test_the_cpp_runner_times_itself_and_starting_it_is_not_in_the_times(product: Bundle) -> None:
    part = registry.load(Runtime, "cpp")
    if reason := part.ready():
        pytest.skip(f"the runner is not built: {reason}")
    assert examine.verify(product, "cpp", 0).passed
    found = examine.profile(product, dataclasses.replace(QUICK, runtime="cpp"))
    python = examine.profile(product, QUICK)
    assert found.runtime.startswith("edgekit-run ") and found.samples >= 40
    assert found.latency_min_ms < 20 * python.latency_min_ms  # a process start is thousands of times as long
    with pytest.raises(EdgekitError, match="times the scenario 'single' only"):
        examine.profile(product, dataclasses.replace(QUICK, runtime="cpp", scenario="poisson"))


def test_eight_samples_take_longer_than_one_and_throughput_counts_them(tmp_path: Path) -> None:
    made = a_plain_one(tmp_path / "p")
    examine.verify(made, "onnxruntime", 0)
    offline = examine.profile(made, dataclasses.replace(QUICK, scenario="offline"))
    assert offline.load.samples_per_query == 64 and offline.load.throughput_per_s
    assert 0 < offline.load.throughput_per_s <= 64e3 / offline.latency_min_ms
    open_loop = examine.profile(made, dataclasses.replace(QUICK, scenario="poisson", rate_hz=2000.0))
    assert open_loop.load.offered_per_s == 2000.0 and open_loop.samples >= 100
    drowned = examine.profile(made, dataclasses.replace(QUICK, scenario="poisson", rate_hz=1e7))
    assert any("overloaded" in r for r in drowned.reasons) and drowned.verdict != "VALID"
    evidence = {p.name for p in (made.folder / "evidence").iterdir()}
    assert {"profile-onnxruntime-1-offline.json", "profile-onnxruntime-1-poisson.json"} <= evidence


def test_a_stream_in_real_time_counts_deadlines(tmp_path: Path) -> None:
    made = a_stream(tmp_path / "s")
    examine.verify(made, "onnxruntime", 0)
    found = examine.profile(made, dataclasses.replace(QUICK, scenario="stream", rate_hz=1000.0))
    assert found.load.period_ms == 3.0 and found.load.deadline_misses is not None
    assert found.load.real_time_factor is not None and 0 < found.load.real_time_factor < 0.5
    with pytest.raises(EdgekitError, match="--rate-hz"):
        examine.profile(made, dataclasses.replace(QUICK, scenario="stream"))


def test_a_process_that_fails_tells_its_own_sentence(product: Bundle, tmp_path: Path) -> None:
    broken = dataclasses.replace(product, folder=tmp_path / "nowhere")
    with pytest.raises(EdgekitError, match="profiling onnx:f32 on onnxruntime failed: no bundle in"):
        profile.profile(broken, QUICK)


def test_a_bundle_that_is_clearly_slower_is_called_so_and_the_same_bundle_is_not(product: Bundle, tmp_path: Path) -> None:
    big = a_product(tmp_path / "big", 1024)
    examine.verify(big, "onnxruntime", 0)
    asked = dataclasses.replace(QUICK, processes=4, seconds=0.4)
    found = examine.compare(product, big, (asked, asked))
    assert found.faster == "A" and found.ratio > 3 and len(found.pair_ratios) == 4
    assert (found.ratio_low or 0) <= found.ratio <= (found.ratio_high or 0)
    same = examine.compare(product, product, (asked, asked))
    assert 0.5 < same.ratio < 2


def test_the_command_line_says_it_all_and_strict_follows_the_verdict(product: Bundle) -> None:
    command = [sys.executable, "-m", "edgekit", "profile", str(product.folder), "--seconds", "0.1", "--processes", "2"]
    plain = subprocess.run(command, capture_output=True, text=True, check=False)
    assert plain.returncode == 0, plain.stderr
    for word in ("p99.9", "undisturbed" if "preempted" in plain.stdout else "raw", "overhead", "energy", "machine", "2 processes were timed"):
        assert word in plain.stdout
    assert subprocess.run([*command, "--strict"], capture_output=True, check=False).returncode == 1  # two processes are TOO-SHORT
    refused = subprocess.run([*command, "--scenario", "stream"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "is no stream" in refused.stderr and len(refused.stderr.strip().splitlines()) == 1


def made_runs(processes: int = 5, n: int = 200, preempted: float = 0.0, scale: float = 0.0, facts: Facts = FACTS) -> list[ProcessRun]:
    random = np.random.default_rng(0)
    runs = []
    for i in range(processes):
        wall = (random.normal(100_000, 1_000, n) * (1 + scale * i)).astype(np.int64)
        marks = random.random(n) < preempted
        wall[marks] *= 20
        runs.append(ProcessRun(facts, np.arange(n) * 1_000_000, wall, wall, marks))
    return runs


def test_undisturbed_figures_leave_preempted_samples_out_and_raw_ones_keep_them() -> None:
    found = summary.summarise(made_runs(preempted=0.08), Conditions(cpu_pressure=0.0), SETUP)
    assert found.latency_undisturbed_p50_ms == pytest.approx(0.1, rel=0.01)
    assert found.percentiles[2].value_ms is not None and found.percentiles[2].value_ms > 1.5
    assert found.percentiles_undisturbed[2].value_ms is not None and found.percentiles_undisturbed[2].value_ms < 0.11
    assert found.samples == 1000 and found.preempted_samples == sum(int(r.preempted.sum()) for r in made_runs(preempted=0.08))
    assert found.verdict == "VALID"


def test_a_profile_reads_the_meter_while_inferences_run_back_to_back(product: Bundle, tmp_path: Path) -> None:
    """A counter that a thread advances at 6 W all the time: 6 W gross, nothing net of idle."""
    folder = tmp_path / "sys/class/powercap/intel-rapl:0"
    folder.mkdir(parents=True)
    for name, text in (("name", "package-0"), ("max_energy_range_uj", "262143328850"), ("energy_uj", "1000000")):
        (folder / name).write_text(text + "\n")
    stop = threading.Event()

    def advance() -> None:
        uj, last = 1_000_000.0, time.monotonic()
        while not stop.wait(0.002):
            now = time.monotonic()
            uj, last = uj + (now - last) * 6e6, now
            draft = folder / "draft"
            draft.write_text(f"{int(uj)}\n")
            draft.replace(folder / "energy_uj")  # a reader never sees half a number, as in the kernel

    thread = threading.Thread(target=advance)
    thread.start()
    try:
        asked = dataclasses.replace(QUICK, energy_seconds=1.2)
        found = profile.profile(product, asked, meter="rapl", tree=Files(tmp_path)).measurement
    finally:
        stop.set()
        thread.join()
    energy = found.energy
    assert energy is not None, found.energy_reason
    assert energy.kind == "counter" and found.energy_mj == energy.gross_mj and found.energy_reason == ""
    assert energy.active_w == pytest.approx(6.0, rel=0.1) and energy.window_s == pytest.approx(1.2, rel=0.2)
    assert energy.gross_mj == pytest.approx(6.0 * energy.window_s / energy.inferences * 1e3, rel=0.1)
    assert energy.net_mj is not None and abs(energy.net_mj) < 0.15 * energy.gross_mj  # idle was 6 W too: nothing is left
    assert found.power is not None and [name for name, _, _ in found.power.spans]


def test_without_a_meter_there_is_no_energy_but_a_reason(product: Bundle, tmp_path: Path) -> None:
    found = profile.profile(product, QUICK, tree=Files(tmp_path)).measurement
    assert found.energy is None and found.energy_mj is None and found.power is None and found.energy_reason
    asked = profile.profile(product, QUICK, meter="rapl", tree=Files(tmp_path)).measurement
    assert asked.energy_mj is None and "rapl" in asked.energy_reason


@pytest.mark.parametrize(
    ("runs", "conditions", "verdict", "reason"),
    [
        (made_runs(), Conditions(cpu_pressure=0.02, throttle_events=0), "VALID", ""),
        (made_runs(), Conditions(cpu_pressure=0.9), "NOISY", "some task waited for a CPU 90 %"),
        (made_runs(), Conditions(steal=0.2), "NOISY", "the hypervisor took 20 %"),
        (made_runs(preempted=0.3), Conditions(), "NOISY", "of 1000 samples were preempted"),
        (made_runs(scale=0.2), Conditions(), "NOISY", "processes disagree"),
        (made_runs(), Conditions(throttle_events=3, cpu_pressure=0.9), "THROTTLED", "3 thermal or over-current events"),
        (made_runs(processes=2), Conditions(), "TOO-SHORT", "2 processes were timed, 5 are needed"),
        (made_runs(n=10), Conditions(), "TOO-SHORT", "50 samples, 64 are needed"),
        (made_runs(facts=dataclasses.replace(FACTS, steady=False)), Conditions(), "TOO-SHORT", "no steady state"),
    ],
)
def test_the_verdict_follows_from_what_happened(runs: list[ProcessRun], conditions: Conditions, verdict: str, reason: str) -> None:
    found = summary.summarise(runs, conditions, SETUP)
    assert found.verdict == verdict and any(reason in r for r in found.reasons) == bool(reason)


def test_a_watch_that_died_never_certifies_a_run() -> None:
    found = summary.summarise(made_runs(), Conditions(), SETUP, watch_failed="reading failed after 3 readings: gone")
    assert found.verdict == "NOISY" and "not known to the end: reading failed" in found.reasons[0]


def test_a_simulator_is_never_valid() -> None:
    found = summary.summarise(made_runs(), Conditions(), dataclasses.replace(SETUP, simulates="Loihi"))
    assert found.verdict == "SIMULATED" and "a simulator of Loihi" in found.reasons[0]


@pytest.mark.slow
def test_under_load_on_all_cores_the_verdict_is_noisy_and_the_undisturbed_p50_stays(product: Bundle, tmp_path: Path) -> None:
    """The load stops by itself; the quiet figure is taken around it, so that a machine that is busy anyway skews both."""
    made = a_product(tmp_path / "p", 512)
    examine.verify(made, "onnxruntime", 0)
    asked = Request("onnxruntime", seconds=1.0)
    quiet = examine.profile(made, asked)
    code = "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass"
    load = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(os.cpu_count() or 1)]
    try:
        noisy = examine.profile(made, asked)
    finally:
        for one in load:
            one.kill()
            one.wait()
    assert noisy.verdict == "NOISY"
    assert quiet.latency_undisturbed_p50_ms and noisy.latency_undisturbed_p50_ms
    assert noisy.latency_undisturbed_p50_ms == pytest.approx(quiet.latency_undisturbed_p50_ms, rel=0.15)
