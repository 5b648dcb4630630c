"""A sweep: every combination is there with its reason, work is done once, a device that fails stops no other, and the front is right."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from sweep_models import measured, model, spec

from edgekit import lock
from edgekit.candidate import Candidate, Quantity, front
from edgekit.cli import cli
from edgekit.errors import EdgekitError, NotEqual
from edgekit.intake import Wishes
from edgekit.remote import Dropped
from edgekit.sweep import cluster as sweep_cluster
from edgekit.sweep import device as sweep_device
from edgekit.sweep import flow as sweep
from edgekit.sweep import host as sweep_host
from edgekit.sweep import plan as sweep_plan
from edgekit.sweep import result as sweep_result
from edgekit.sweep.ledger import Ledger
from edgekit.sweep.plan import HERE

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "sweep_digits.toml"


def plan(folder: Path, names: str, **values: object) -> sweep_plan.Plan:
    """A plan over tiny models, one a letter of `names`, on onnxruntime; here only where the test says so, or names no other place."""
    models = [spec(model(folder, n, seed)) for seed, n in enumerate(names)]
    here = not (values.get("targets") or values.get("devices"))
    return sweep_plan.plan_of({"models": models, "here": here, **values}, folder, "test", "test")


def path() -> str:
    """PYTHONPATH for processes of their own."""
    return os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])


def devices(*names: str, target: str = "host") -> list[dict[str, str]]:
    """Devices by ssh that nobody ever connects to, because measure is replaced."""
    return [{"name": n, "target": target, "ssh": f"ssh://nobody@{n}.invalid"} for n in names]


@pytest.fixture
def simulated(monkeypatch):
    """measure() is a sleep of 10 ms, noted down; `simulated.fails[device]` is called first."""

    class Simulated:
        calls: list[tuple[str, str, int, int]] = []  # (device, bundle, start, end)
        fails: dict[str, object] = {}
        verdict: dict[str, str] = {}  # model -> verdict, where it is not VALID

    state = Simulated()
    state.calls, state.fails, state.verdict = [], {}, {}

    def measure(device, bundle, request, target="host", progress=None):
        name = device.name if device else HERE
        start = time.monotonic_ns()
        if name in state.fails:
            state.fails[name](bundle)
        time.sleep(0.01)
        state.calls.append((name, str(bundle.folder), start, time.monotonic_ns()))
        model_name = bundle.folder.parent.name
        return dataclasses.replace(measured(len(model_name), name), verdict=state.verdict.get(model_name, "VALID"))

    monkeypatch.setattr(sweep_device, "measure", measure)
    monkeypatch.setattr(sweep, "BACK_OFF_S", 0.01)
    return state


# --- the plan


def test_the_example_has_all_combinations_and_refuses_exactly_those_that_cannot_be():
    cells = sweep_plan.cells(sweep_plan.read(EXAMPLE))
    host = [c for c in cells if not c.estimated]
    assert {(c.steps, c.precision, c.runtime) for c in host} == set(
        itertools.product([1, 2, 3, 4, 5], ["f32", "bf16", "int8"], ["onnxruntime", "openvino", "lava"])
    )
    assert len(host) == 45
    for c in host:
        cannot = (c.runtime == "onnxruntime" and c.precision == "bf16") or (c.runtime == "lava" and (c.precision != "int8" or (c.steps or 0) > 1))
        lava_is_here = not (c.runtime == "lava" and "set up" in c.refused)
        assert bool(c.refused) == (cannot or not lava_is_here), c
    assert len({c.name for c in cells}) == len(cells)
    reasons = {c.refused for c in host if c.refused}
    assert "nir takes networks of one timestep only" in reasons
    assert any(r.startswith("nothing makes onnx:bf16; of onnx there are: f16, f32, int8") for r in reasons)


def test_the_example_says_where_a_simulator_stands_for_a_chip():
    cells = sweep_plan.cells(sweep_plan.read(EXAMPLE))
    assert {c.target for c in cells if c.runtime == "lava"} == {"loihi2_sim"}
    assert {c.target for c in cells if c.runtime == "openvino" and not c.estimated} == {"host"}


def test_devices_of_one_target_share_its_jobs_unless_each_is_asked_for(tmp_path):
    fleet = [*devices("a", "b", target="loihi1"), *devices("c", target="loihi2_sim"), *devices("d", "e")]
    shared = [(c.target, c.device) for c in sweep_plan.cells(plan(tmp_path, "m", devices=fleet))]
    # d and e are hosts: whatever machine they are, so they are not the same device
    assert shared == [("loihi1", ""), ("loihi2_sim", "c"), ("host", "d"), ("host", "e")]
    each = [(c.target, c.device) for c in sweep_plan.cells(plan(tmp_path, "m", devices=fleet, every_device=True, here=True))]
    assert each == [("host", HERE), *((d["target"], d["name"]) for d in fleet)]


def test_this_machine_measures_unless_devices_are_named_or_it_is_told_not_to(tmp_path):
    own = {"models": [spec(model(tmp_path, "m", 0))]}

    def measures(**values):
        return any(c.device == HERE for c in sweep_plan.cells(sweep_plan.plan_of({**own, **values}, tmp_path, "test", "test")))

    assert measures() and measures(targets=["raspberry_pi_5"]) and measures(devices=devices("a"), here=True)
    assert not measures(devices=devices("a")) and not measures(targets=["raspberry_pi_5"], here=False)


def test_a_target_that_is_only_estimated_is_one_cell_of_a_bundle_that_can_be_verified_here(tmp_path):
    cells = sweep_plan.cells(plan(tmp_path, "m", targets=["loihi1"], precisions=["f32", "int8"]))
    assert [(c.target, c.estimated, c.label, c.scored_on) for c in cells if not c.refused] == [("loihi1", True, "onnx:int8", "onnxruntime")]
    assert [c.refused for c in cells if c.refused] == ["Loihi 1 (simulated by Lava) runs int8, not f32"]
    assert not any(c.device for c in cells)


def test_an_estimate_is_of_a_bundle_for_an_engine_of_the_target(tmp_path):
    chosen = {t: next(c.label for c in sweep_plan.cells(plan(tmp_path, "m", targets=[t], precisions=["int8"], runtimes=["openvino", "onnxruntime", "lava"])))
              for t in ("loihi1", "jetson_orin_nano", "intel_n100")}  # fmt: skip
    assert chosen == {"loihi1": "lava:int8", "jetson_orin_nano": "onnx:int8", "intel_n100": "openvino:int8"}


def test_a_simulator_and_an_engine_that_says_nothing_of_the_device_are_not_measured_on_one(tmp_path):
    cells = sweep_plan.cells(plan(tmp_path, "m", devices=devices("a"), runtimes=["lava"], precisions=["int8"]))
    assert [c.refused for c in cells] == ["lava simulates Loihi 2 fixed point, on this machine only"]
    cells = sweep_plan.cells(plan(tmp_path, "m", devices=devices("a"), runtimes=["tensorrt_onnx"]))
    assert [c.refused for c in cells] == ["tensorrt_onnx is there to be right and is not timed"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"precision": ["f32"]}, "unknown key 'precision' .did you mean 'precisions'"),
        ({"precisions": ["f64"]}, "no precision 'f64'; there are: bf16"),
        ({"variants": ["spikey"]}, "no variant 'spikey'"),
        ({"runtimes": ["onnx"]}, "no runtime 'onnx'"),
        ({"targets": ["jetson"]}, "no target 'jetson'"),
        ({"devices": [{"name": "a", "adress": "x"}]}, "unknown key 'adress'"),
        ({"devices": devices("a", "a")}, "name of its own"),
        ({"devices": [{"name": HERE}]}, "machine that the sweep runs on"),
        ({"devices": 3}, "devices are"),
        ({"devices": "no_such_fleet.toml"}, "no fleet file at"),
        ({"models": []}, "at least one model"),
        ({"models": [{"recipe": "a.toml", "file": "b.onnx"}]}, "one of recipe, checkpoint and file, found 2"),
        ({"models": [{"file": "b.h5"}]}, "a file is a .onnx, a .pt2 or module:function"),
        ({"models": [{"file": "no.onnx"}]}, "there is no .*no.onnx"),
        ({"models": [{"checkpoint": "x", "steps": [1]}]}, "'steps' chooses checkpoints of a recipe"),
        ({"models": [{"recipe": "x.toml", "steps": [1, 1]}]}, "different numbers"),
        ({"models": [{"recipe": "x.toml", "wishes": {"tail": "drop"}}]}, "'wishes' are said about a file"),
        ({"models": [{"file": "a.onnx", "name": "../a"}]}, "a model's name is of letters"),
        ({"models": [{"file": "a_t1.onnx"}, {"recipe": "a.toml", "steps": [1]}]}, "each model has a name of its own, found a_t1, a_t1"),
        ({"profile": {"seconds": 0}}, "seconds are more than 0"),
        ({"profile": {"runtime": "openvino"}}, "'runtimes' names the runtimes"),
        ({"attempts": 0}, "at least 1"),
        ({"here": False}, "nothing to measure on"),
    ],
)
def test_what_does_not_fit_ends_in_one_sentence(tmp_path, values, said):
    with pytest.raises(EdgekitError, match=said) as raised:
        plan(tmp_path, "m", **values) if "models" not in values else sweep_plan.plan_of(values, tmp_path, "test", "test")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_toml_is_told_so(tmp_path):
    with pytest.raises(EdgekitError, match="no sweep at"):
        sweep_plan.read(tmp_path / "absent.toml")
    (tmp_path / "x.toml").write_text("models = [")
    with pytest.raises(EdgekitError, match="not a TOML file"):
        sweep_plan.read(tmp_path / "x.toml")


def test_a_dry_run_lists_all_and_does_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["sweep", str(EXAMPLE), "--dry-run", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output) == [
        {**dataclasses.asdict(c), "name": c.name} for c in sweep_plan.cells(sweep_plan.read(EXAMPLE))
    ]
    plain = CliRunner().invoke(cli, ["sweep", str(EXAMPLE), "--dry-run"]).output
    assert "no   digits_t2 lava:f32 on this machine, lava: nothing makes lava:f32; of lava there are: int8" in plain
    assert list(tmp_path.iterdir()) == []


# --- the front


def dominated(b: Candidate, others: list[Candidate], cost: str) -> bool:
    """Written from the words alone: some other one is no worse in quality, at most as dear at its dearest as b at its
    cheapest, and in one of the two strictly better."""
    for a in others:
        (aq, ac), (bq, bc) = (a.quality, getattr(a, cost)), (b.quality, getattr(b, cost))
        if aq >= bq and ac.high <= bc.low and (aq != bq or ac.high != bc.low):
            return True
    return False


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("cost", ["latency_ms", "energy_mj"])
def test_the_front_is_that_of_brute_force(seed, cost):
    rng = random.Random(seed)

    def quantity() -> Quantity | None:
        if rng.random() < 0.15:
            return None
        low, mid, high = sorted(rng.choice([1.0, 2.0, 2.5, 3.0, 5.0, 8.0]) for _ in range(3))  # few values: ties and touching intervals
        exact = rng.random() < 0.3
        return Quantity(mid, mid if exact else low, mid if exact else high, rng.choice(["measured", "spec-estimate"]))

    def one(i: int) -> Candidate:
        quality = None if rng.random() < 0.1 else rng.choice([0.5, 0.9, 0.95, 0.95, 0.97])
        return Candidate(f"c{i}", "m", "t", "d", "r", "onnx", "f32", 1, quality, quantity(), quantity())

    pool = [one(i) for i in range(rng.randrange(1, 60))]
    there = [c for c in pool if c.quality is not None and getattr(c, cost) is not None]
    expected = {c.name for c in there if not dominated(c, [a for a in there if a is not c], cost)}
    found = front(pool, cost)
    assert {c.name for c in found} == expected
    assert len(found) == len(expected)
    values = [getattr(c, cost).value for c in found]
    assert values == sorted(values)
    assert bool(expected) == bool(there)  # something is always on the front


# --- the run


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder of a sweep over four models in which everything but measuring is done."""
    folder = tmp_path_factory.mktemp("prepared")
    sweep.run(plan(folder, "abcd", targets=["loihi1"], precisions=["f32", "int8"]), folder / "out", workers=2)
    return folder


@pytest.fixture
def again(prepared, tmp_path):
    """A copy of it, and a plan over its models."""
    import shutil

    out = Path(shutil.copytree(prepared / "out", tmp_path / "out"))
    return out, lambda **values: plan(prepared, "abcd", **values)


def outcomes(swept: sweep.Swept) -> Counter[str]:
    return Counter(r.state for r in swept.rows)


def test_two_devices_measure_at_once_and_neither_two_things_at_a_time(again, simulated):
    out, planned = again
    found = sweep.run(planned(devices=devices("a", "b")), out, workers=1)
    assert outcomes(found) == {"done": 8}
    for device in "ab":
        spans = sorted((s, e) for d, _, s, e in simulated.calls if d == device)
        assert len(spans) == 4
        assert all(x[1] <= y[0] for x, y in zip(spans, spans[1:], strict=False))
    with Ledger(out / sweep.LEDGER) as ledger:
        assert ledger.overlaps() == []
        assert Counter(r.outcome for r in ledger.runs()) == {"done": 8}


def test_every_cell_becomes_a_candidate_with_the_score_of_that_very_bundle(again, simulated):
    out, planned = again
    found = sweep.run(planned(devices=devices("a"), targets=["loihi1"], precisions=["f32", "bf16"]), out, workers=1)
    assert len(found.rows) == 4 * 2 * 2
    by = {r.cell.name: r for r in found.rows}
    there = by["a onnx:f32 on a, onnxruntime"].candidate
    assert there is not None
    assert (there.quality, there.verdict, there.device, there.steps) == (1.0, "VALID", "a", None)
    assert there.latency_ms == Quantity(1, 0.99, 1.01, "measured", "p50 of 5 processes, VALID")
    assert there.bytes_total == sum(f.stat().st_size for f in (out / "bundles/a/onnx-f32").iterdir() if f.suffix == ".onnx" or f.name == "bundle.json") \
        - (out / "bundles/a/onnx-f32/bundle.json").stat().st_size
    assert there.energy_mj is None
    assert there.notes == ("no energy: no meter was read on the device",)
    refused = by["a onnx:bf16 on a, onnxruntime"]
    assert (refused.state, refused.candidate) == ("refused", None)
    written = json.loads((out / "sweep.json").read_text())
    assert {c["name"]: c["state"] for c in written["cells"]} == {r.cell.name: r.state for r in found.rows}
    assert written["fronts"]["latency_ms"] == [c.name for c in found.front("latency_ms")]
    run = sweep_result.write_report(found, out)
    page = (out / "report" / "page.html").read_text()
    assert "nothing makes onnx:bf16" in page
    on = {c.name for c in found.front("latency_ms")} & {r.cell.name for r in found.rows if r.measurement}
    assert on and {b.label for b in run.bundles} == {name.partition(",")[0] for name in on}  # measured and to be chosen: shown in full
    assert all(b.measurements[0] == by[f"{b.label}, onnxruntime"].measurement and b.verifications[0].passed for b in run.bundles)
    assert "no energy: no meter was read on the device" in page  # the candidates' own notes stand there too
    assert "<html" in page


def test_done_is_done_the_second_sweep_measures_and_makes_nothing(again, simulated):
    out, planned = again
    first = sweep.run(planned(devices=devices("a")), out, workers=1)
    assert len(simulated.calls) == 4
    made = {p: p.stat().st_mtime_ns for p in out.glob("bundles/*/*/bundle.json")}
    second = sweep.run(planned(devices=devices("a")), out, workers=1)
    assert len(simulated.calls) == 4
    assert second == first
    assert {p: p.stat().st_mtime_ns for p in out.glob("bundles/*/*/bundle.json")} == made
    other = sweep.run(planned(devices=devices("a"), profile={"seconds": 0.5}), out, workers=1)  # another setting is another job
    assert len(simulated.calls) == 8
    assert outcomes(other) == {"done": 4}
    simulated.verdict["a"] = "NOISY"
    for settings, times in (({"seconds": 0.4}, 12), ({"seconds": 0.4}, 13)):  # the second time, what was noisy is measured anew
        sweep.run(planned(devices=devices("a"), profile=settings), out, workers=1, again=True)
        assert len(simulated.calls) == times


def test_a_bundle_that_was_removed_is_made_again(again, simulated):
    import shutil

    out, planned = again
    shutil.rmtree(out / "bundles" / "b")
    found = sweep.run(planned(devices=devices("a")), out, workers=1)
    assert outcomes(found) == {"done": 4}
    assert (out / "bundles/b/onnx-f32/evidence/verify-onnxruntime.json").exists()


def test_a_lost_connection_is_tried_again_and_a_wrong_answer_is_not(again, simulated):
    out, planned = again
    tries: Counter[str] = Counter()

    def sometimes(bundle):
        name = bundle.folder.parent.name
        tries[name] += 1
        if name == "a" and tries[name] < 3:
            raise Dropped("the connection was lost")
        if name == "b":
            raise NotEqual("output 'y' differs by 3")
        if name == "c":
            raise ZeroDivisionError("a defect")

    simulated.fails["x"] = sometimes
    found = sweep.run(planned(devices=devices("x")), out, workers=1)
    assert tries == {"a": 3, "b": 1, "c": 1, "d": 1}
    reasons = {r.cell.model: (r.state, r.reason) for r in found.rows}
    assert reasons == {
        "a": ("done", ""), "b": ("failed", "output 'y' differs by 3"), "c": ("failed", "ZeroDivisionError: a defect"), "d": ("done", "")}  # fmt: skip
    with Ledger(out / sweep.LEDGER) as ledger:
        assert sorted(r.outcome or "" for r in ledger.runs()) == ["again", "again", "done", "done", "failed", "failed"]
        assert ledger.overlaps() == []
    del simulated.fails["x"]
    assert outcomes(sweep.run(planned(devices=devices("x")), out, workers=1)) == {"done": 4}  # failed ones are tried anew, done ones not
    assert sum(c[1].endswith("a/onnx-f32") for c in simulated.calls) == 1


def test_a_dead_devices_jobs_move_to_another_of_its_target_and_stop_nobody(again, simulated):
    out, planned = again
    asked: Counter[str] = Counter()

    def dead(bundle):
        asked["x"] += 1
        raise Dropped("no answer from x")

    simulated.fails["x"] = dead
    found = sweep.run(planned(devices=devices("x", "y", target="loihi1")), out, workers=1)
    assert outcomes(found) == {"done": 4}
    assert {r.candidate.device for r in found.rows if r.candidate} == {"y"}
    assert 1 <= asked["x"] <= 3  # then it is not asked any more
    with Ledger(out / sweep.LEDGER) as ledger:
        assert ledger.overlaps() == []


def test_jobs_of_a_dead_device_alone_of_its_kind_fail_with_the_reason_and_the_others_are_done(again, simulated):
    out, planned = again

    def dead(bundle):
        raise Dropped("no answer from x")

    simulated.fails["x"] = dead
    found = sweep.run(planned(devices=devices("x", "y")), out, workers=1)
    assert outcomes(found) == {"done": 4, "failed": 4}
    reasons = [r.reason for r in found.rows if r.state == "failed"]
    assert all("no answer from x" in r for r in reasons)
    assert sum("no device is left" in r for r in reasons) == 3  # they were not even tried
    with Ledger(out / sweep.LEDGER) as ledger:
        assert Counter(j.state for j in ledger.jobs("measure") if "on x" in j.what) == {"failed": 4}
    done = CliRunner().invoke(cli, ["sweep", "--help"])
    assert "Exit code 1" in done.output


def test_this_machine_is_measured_only_when_nothing_computes_any_more(tmp_path, simulated, monkeypatch):
    ends: list[int] = []
    usual = sweep._Work._ended

    def noted(self, name, outcome):
        if not self.running[name]:
            ends.append(time.monotonic_ns())
        usual(self, name, outcome)

    monkeypatch.setattr(sweep._Work, "_ended", noted)
    sweep.run(plan(tmp_path, "abc", here=True, devices=devices("far")), tmp_path / "out", workers=2)
    here = [c for c in simulated.calls if c[0] == HERE]
    far = [c for c in simulated.calls if c[0] == "far"]
    assert len(here) == len(far) == 3
    assert min(c[2] for c in here) > max(ends)
    assert min(c[2] for c in far) < max(ends)  # another machine is not waited for


def test_an_engine_that_kills_its_process_fails_alone(tmp_path, simulated, monkeypatch):
    package = tmp_path / "package"
    package.mkdir()
    (package / "deadly_model.py").write_text("import os\ndef make():\n    os.kill(os.getpid(), 9)\n")
    monkeypatch.setenv("PYTHONPATH", f"{package}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(str(package))
    planned = sweep_plan.plan_of({"models": [spec(model(tmp_path, "fine")), {"file": "deadly_model:make"}]}, tmp_path, "t", "t")
    found = sweep.run(planned, tmp_path / "out", workers=1)
    assert {r.cell.model: r.state for r in found.rows} == {"fine": "done", "deadly_model-make": "failed"}
    assert "its process was ended by SIGKILL" in next(r.reason for r in found.rows if r.state == "failed")


def test_what_an_exporter_refuses_is_a_cell_with_its_words(tmp_path, simulated):
    path = model(tmp_path, "plain")
    planned = sweep_plan.plan_of({"models": [{"file": str(path)}], "precisions": ["f32", "int8"]}, tmp_path, "t", "t")
    found = {r.cell.precision: r for r in sweep.run(planned, tmp_path / "out", workers=1).rows}
    assert found["int8"].state == "refused"
    assert "calibration" in found["int8"].reason
    assert found["f32"].candidate is not None
    assert found["f32"].candidate.quality is None
    assert "--test" in found["f32"].candidate.notes[0]


@pytest.mark.slow
def test_the_steps_of_a_recipe_are_its_checkpoints_and_one_that_it_does_not_train_is_said(small_run, tmp_path, simulated):
    import shutil

    shutil.copytree(small_run, tmp_path / "out" / "models" / "small")
    shutil.copy(small_run.parent / "small.toml", tmp_path / "small.toml")
    planned = sweep_plan.plan_of({"models": [{"recipe": "small.toml", "steps": [4, 3]}], "devices": devices("x")}, tmp_path, "t", "t")
    found = {r.cell.steps: r for r in sweep.run(planned, tmp_path / "out", workers=1).rows}
    assert (found[3].state, found[3].reason) == (
        "refused", f"{tmp_path}/small.toml trains no network of 3 timesteps; of those asked for there are: 4")  # fmt: skip
    told = json.loads((small_run / "train" / "result.json").read_text())["rows"]
    scores = {r["steps"]: r["score"] for r in told if r["role"] == "stage"}
    of_folder = sweep_plan.plan_of({"models": [{"checkpoint": str(small_run), "name": "kept"}], "devices": devices("x")}, tmp_path, "t", "t")
    row = sweep.run(of_folder, tmp_path / "out", workers=1).rows[0]
    for steps, there in ((4, found[4].candidate), (1, row.candidate)):
        assert there is not None
        assert (there.steps, there.quality) == (steps, pytest.approx(scores[steps], abs=0.003))  # 0.003: verify allows an image to turn
    assert row.candidate is not None
    assert row.candidate.model == "kept"


def test_one_sweep_at_a_time_works_in_a_folder(tmp_path):
    """test_writes.py has another process in it; here it is another thread."""
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        with lock.run_folder(tmp_path / "out"):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait()
    try:
        with pytest.raises(EdgekitError, match="another edgekit process works in"):
            sweep.run(plan(tmp_path, "a"), tmp_path / "out")
    finally:
        leave.set()
        thread.join()
    assert not list((tmp_path / "out").glob("*"))  # a folder that was made for nothing goes with its lock


# --- the planes


def look_around(_: int) -> tuple[int, str | None]:
    return os.getpid(), os.environ.get("OMP_NUM_THREADS")


def listening(pid: int) -> set[str]:
    """Local addresses (as the kernel writes them) of the listening TCP sockets of a process."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(link.readlink()))
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:] if Path(table).exists() else []:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                found.add(words[1].split(":")[0])
    return found


def test_the_cluster_is_in_this_process_and_listens_on_loopback_alone(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with sweep_cluster.planes(["a", "b"], 2) as started:
        found = [f.result(timeout=30) for f in [started.compute(look_around, i) for i in range(6)]]
        found.append(started.on_device("a", look_around, 0).result(timeout=30))
        assert set(found) == {(os.getpid(), None)}  # nothing of dask's environment reaches what is measured
        assert listening(os.getpid()) == {"0100007F"}


def test_starting_a_sweep_loads_nothing_heavy():
    """torch and the engines are loaded by the processes that need them, not by the one that measures beside them."""
    code = (
        "import sys\nfrom edgekit.sweep import cluster as sweep_cluster, flow as sweep\n"
        "with sweep_cluster.planes(['a'], 1) as p:\n    p.on_device('a', len, 'x').result()\n"
        "print(*(n for n in ('torch', 'openvino', 'onnxruntime', 'sklearn', 'lightning_fabric', 'altair') if n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path()})
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_what_an_apart_process_prints_or_leaves_behind_does_not_matter(tmp_path, monkeypatch):
    (tmp_path / "chatty_model.py").write_text("print('{not JSON')\ndef make():\n    raise SystemExit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = sweep_host.apart("read", "chatty_model:make", Wishes())
    assert found.state == "failed"
    assert "\n" not in found.error
    assert sweep_host.apart("read", str(model(tmp_path, "m")), Wishes()).state == "done"


def test_a_stranger_on_this_machine_cannot_hand_in_work(monkeypatch):
    monkeypatch.setattr(sweep_cluster, "CONNECT_S", 2)
    with sweep_cluster.planes(["a"], 0) as started:
        address = started._devices.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        for url in (address, address.replace("tls", "tcp")):
            with pytest.raises((OSError, TypeError)):  # no certificate of that scheduler
                asyncio.run(sweep_cluster.answer(url))


def test_workers_that_are_gone_end_the_sweep_in_one_sentence(tmp_path, simulated, monkeypatch):
    monkeypatch.setattr(sweep, "GONE_S", 0.5)
    monkeypatch.setattr(sweep, "LEASE_S", 0.4)
    usual = sweep_cluster._local
    monkeypatch.setattr(sweep_cluster, "_local", lambda proxies, workers: usual(proxies, 0))  # none ever comes
    with pytest.raises(EdgekitError, match="all workers that compute for the sweep are gone"):
        sweep.run(plan(tmp_path, "a", devices=devices("x")), tmp_path / "out", workers=1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A dask cluster of somebody else: a scheduler and a worker as their own commands start them."""
    folder = tmp_path_factory.mktemp("cluster")
    env = {**os.environ, "PYTHONPATH": path()}
    options = ["--no-dashboard", "--host", "127.0.0.1"]
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", *options, "--port", "0", "--scheduler-file", str(folder / "scheduler.json")],
        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    worker = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", *options, "--nworkers", "1", "--nthreads", "1", "--local-directory", str(folder),
         "--scheduler-file", str(folder / "scheduler.json")], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    end = time.monotonic() + 30
    while not (folder / "scheduler.json").exists() or not (folder / "scheduler.json").read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    yield json.loads((folder / "scheduler.json").read_text())["address"]
    for process in (worker, scheduler):
        process.terminate()
        process.wait(timeout=20)


def test_a_real_cluster_computes_and_devices_are_measured_from_here(cluster, tmp_path, simulated):
    found = sweep.run(plan(tmp_path, "ab", devices=devices("x")), tmp_path / "out", scheduler=cluster)
    assert outcomes(found) == {"done": 2}
    assert len(simulated.calls) == 2


def test_a_worker_that_does_not_see_the_folder_is_found_out_before_any_work(cluster, tmp_path, simulated, monkeypatch):
    monkeypatch.setattr(sweep_cluster.files, "write_text", lambda path, text: None)  # as if it were written on another disk
    with pytest.raises(EdgekitError, match="does not see the folder .*; give --out a folder that all machines share"):
        sweep.run(plan(tmp_path, "a", devices=devices("x")), tmp_path / "out", scheduler=cluster)
    assert not (tmp_path / "out" / "bundles").exists()


def test_a_worker_that_does_not_see_a_model_or_has_another_edgekit_is_found_out(cluster, tmp_path, monkeypatch):
    with pytest.raises(EdgekitError, match="does not see .*gone.onnx"), sweep_cluster.planes([], 0, cluster, [tmp_path / "gone.onnx"], tmp_path):
        pass
    monkeypatch.setattr(sweep_cluster, "__version__", "99")
    with pytest.raises(EdgekitError, match="both must be the same"), sweep_cluster.planes([], 0, cluster, [], tmp_path):
        pass


def test_no_scheduler_there_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_cluster, "CONNECT_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as other:  # somebody listens there who is no scheduler
        for address in ("tcp://127.0.0.1:9", "nonsense", f"tcp://127.0.0.1:{other.getsockname()[1]}"):
            with pytest.raises(EdgekitError, match=f"no dask scheduler answers at {address}") as raised, sweep_cluster.planes([], 0, address, [], tmp_path):
                pass
            assert "\n" not in str(raised.value)


# --- this machine as a device


def test_two_measurements_of_two_sweeps_wait_for_each_other_on_one_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    inside: list[int] = []

    def work() -> None:
        with sweep_device._alone():
            inside.append(1)
            assert len(inside) == 1
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == []
    monkeypatch.setattr(sweep_device, "WAIT_S", 0.3)
    with sweep_device._alone(), pytest.raises(sweep_device.Busy, match="another sweep measures"), sweep_device._alone():
        pass


def test_what_a_killed_sweep_left_running_is_seen():
    """It must end before this machine is measured again."""
    code = (
        "import subprocess, sys\nfrom edgekit.sweep import device as sweep_device\n"
        "with sweep_device.marked():\n"
        "    p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], stdout=subprocess.DEVNULL)\n"
        "    print(p.pid, flush=True)\n"
        "    p.wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path()})
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert child not in sweep_device.orphans()
    parent.kill()
    parent.communicate()
    assert child in sweep_device.orphans()
    os.kill(child, 9)


def test_who_is_interrupted_says_so_in_one_line_and_leaves_nothing_running(tmp_path):
    table = spec(model(tmp_path, "m"))
    (tmp_path / "s.toml").write_text(f'[[models]]\nfile = {json.dumps(table["file"])}\n[profile]\nseconds = 60.0\nprocesses = 2\n')
    command = [sys.executable, "-m", "edgekit", "sweep", str(tmp_path / "s.toml"), "--out", str(tmp_path / "out")]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ, "PYTHONPATH": path()})
    until = time.monotonic() + 60
    while not (tmp_path / "out" / sweep.LEDGER).exists() or not timed(tmp_path / "out"):
        assert time.monotonic() < until
        assert running.poll() is None
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert said.strip().splitlines()[-1] == "stopped; run the same command again to go on"
    assert "Traceback" not in said
    assert [pid for pid, owner in sweep_device._marks().items() if owner.pid == running.pid] == []


def timed(out: Path) -> bool:
    """A measurement is under way there."""
    with Ledger(out / sweep.LEDGER) as ledger:
        return any(j.state == "running" for j in ledger.jobs("measure"))


def test_the_example_is_the_sweep_that_the_words_say():
    """T = 1..5 x f32, bf16, INT8 x three engines, all of it with one file."""
    values = tomllib.loads(EXAMPLE.read_text())
    assert values["models"] == [{"recipe": "iir_snn_digits.toml", "name": "digits", "steps": [1, 2, 3, 4, 5]}]
    assert (values["precisions"], values["runtimes"]) == (["f32", "bf16", "int8"], ["onnxruntime", "openvino", "lava"])


@pytest.mark.slow
def test_the_whole_example_ends_with_a_page_and_a_right_front(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "edgekit", "sweep", str(EXAMPLE), "--out", str(tmp_path / "out"), "--json"], capture_output=True, text=True, check=False, timeout=1500)  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert sum(not c["cell"]["estimated"] for c in told["cells"]) == 45
    assert Path(told["page"]).stat().st_size < 1.5e6
    there = [c["candidate"] for c in told["cells"] if c["candidate"] and c["candidate"]["latency_ms"] and c["candidate"]["quality"] is not None]
    assert len(there) >= 15
    on = {
        b["name"] for b in there
        if not any(a["quality"] >= b["quality"] and a["latency_ms"]["high"] <= b["latency_ms"]["low"]
                   and (a["quality"], a["latency_ms"]["high"]) != (b["quality"], b["latency_ms"]["low"]) for a in there if a is not b)
    }  # fmt: skip
    assert set(told["fronts"]["latency_ms"]) == on
    lava = [c["candidate"] for c in told["cells"] if c["cell"]["runtime"] == "lava" and c["candidate"] and not c["cell"]["estimated"]]
    assert all(c["latency_ms"] is None and c["quality"] > 0.9 for c in lava)
    assert all(c["candidate"]["latency_ms"]["kind"] == "spec-estimate" for c in told["cells"] if c["cell"]["estimated"] and c["candidate"])
