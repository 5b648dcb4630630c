"""The C++ runner times a bundle by itself: what it writes is what edgekit reads, and it says what it cannot do."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from toy_bundles import bundle, decay, graph, tensor

from edgekit.bundle import Bundle, Golden
from edgekit.process_run import Facts, ProcessRun
from edgekit.program import Feed, Join, Phase, Program, State, Stream, once, value
from edgekit.runtimes import _cpp_build, cpp
from edgekit.signature import Signature


def runner() -> str:
    built = _cpp_build.runner(cpp.NATIVE)
    if built is None:
        pytest.skip("the C++ runner is not built from these sources: run `edgekit setup cpp`")
    return str(built)


def asked(made: Bundle, *options: object) -> subprocess.CompletedProcess[str]:
    command = [runner(), str(made.folder), "--library", str(_cpp_build.onnxruntime_folder()), "--threads", "1", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def said(made: Bundle, *options: object) -> list[dict]:
    done = asked(made, *options)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """y = x W, sixteen golden rows; the batch is free."""
    random = np.random.default_rng(0)
    weights = random.normal(size=(256, 256)).astype(np.float32)
    x = random.normal(size=(16, 256)).astype(np.float32)
    tensors = (tensor("x", "batch", 256),), (tensor("y", "batch", 256),)
    made = graph(*tensors, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weights})
    return bundle(tmp_path_factory.mktemp("product") / "b", {"main": made}, Signature(*tensors), once(("x",), ("y",)), golden=Golden({"x": x}, {"y": x @ weights}))


def test_edgekit_reads_what_the_runner_timed(product: Bundle, tmp_path: Path) -> None:
    before = time.monotonic_ns()
    (line,) = said(product, "--profile", 0.2, "--samples", tmp_path / "s.safetensors", "--pin", "auto")
    after = time.monotonic_ns()
    run = ProcessRun.load(tmp_path / "s.safetensors", line["facts"])
    assert run.facts.engine.startswith("edgekit-run 0.1.0 with onnxruntime ")
    assert run.facts.pinned_to == max(os.sched_getaffinity(0))
    assert run.facts.load_ms > 0 and run.facts.first_run_ms > 0 and run.facts.memory_peak_mb > 5 and run.facts.warm_up_runs >= 20
    assert 0 < run.facts.overhead_ns < np.median(run.wall_ns)
    assert len(run.wall_ns) >= 100 and run.preempted.dtype == bool
    # The samples lie within this call by the same clock, one after the other, over 0.2 s.
    assert before < run.start_ns[0] and run.start_ns[-1] + run.wall_ns[-1] < after
    assert (run.start_ns[1:] >= run.start_ns[:-1] + run.wall_ns[:-1]).all()
    # 0.2 s less what the scheduler took before the first sample
    assert 0.15e9 <= run.start_ns[-1] + run.wall_ns[-1] - run.start_ns[0] < 1.5e9
    # A pinned thread computes no longer than the clock on the wall runs, but for what the two clocks themselves take.
    calm = ~run.preempted
    assert (run.cpu_ns[calm] <= run.wall_ns[calm] + 20_000).mean() > 0.99 and np.median(run.cpu_ns / run.wall_ns) > 0.8


def test_every_fact_of_a_process_is_there_and_none_else(product: Bundle, tmp_path: Path) -> None:
    (line,) = said(product, "--profile", 0.01, "--samples", tmp_path / "s.safetensors")
    assert set(line) == {"facts"} and set(line["facts"]) == set(Facts.__dataclass_fields__) - {"events_per_query"}
    assert line["facts"]["different_inputs"] == 1
    assert line["facts"]["pinned_to"] is None


def test_a_query_is_one_sample_though_the_golden_inputs_are_many(product: Bundle, tmp_path: Path) -> None:
    """The bench runs all sixteen rows; sixteen products of a matrix with a vector are more work than one."""
    (line,) = said(product, "--profile", 0.1, "--samples", tmp_path / "s.safetensors")
    done = asked(product, "--bench", 0.1)
    run = ProcessRun.load(tmp_path / "s.safetensors", line["facts"])
    assert json.loads(done.stdout)["latency_min_ms"] > 1.3 * run.wall_ns.min() / 1e6


def test_a_slow_model_gets_its_hundred_samples(product: Bundle, tmp_path: Path) -> None:
    (line,) = said(product, "--profile", 0.000001, "--samples", tmp_path / "s.safetensors")
    assert len(ProcessRun.load(tmp_path / "s.safetensors", line["facts"]).wall_ns) == 100


def test_a_warm_up_that_is_cut_off_says_so(product: Bundle, tmp_path: Path) -> None:
    (line,) = said(product, "--profile", 0.01, "--samples", tmp_path / "s.safetensors", "--warmup-cap", 0.000001)
    assert not line["facts"]["steady"] and line["facts"]["warm_up_runs"] == 20


def test_of_a_stream_a_push_of_one_chunk_is_timed(tmp_path: Path) -> None:
    stream = Stream({"sound": Feed(1, 4, 3)}, (Phase("g", inputs={"x": value("sound"), "u": value("u")}, carry={"u_next": "u"}),),
                    {"u": Join("concat", 1)}, {"u": State("float32", (1, 4))})  # fmt: skip
    whole = Signature((tensor("sound", 1, "samples"),), (tensor("u", 1, "frames"),))
    golden = Golden({"sound": np.ones((1, 30), np.float32)}, {})
    made = bundle(tmp_path / "b", {"g": decay(1, 4)}, whole, Program((stream,)), golden=golden)
    bench = json.loads(asked(made, "--bench", 0.05).stdout)
    assert bench["steps_per_run"] == 1
    (line,) = said(made, "--profile", 0.05, "--samples", tmp_path / "s.safetensors")
    assert ProcessRun.load(tmp_path / "s.safetensors", line["facts"]).facts.samples_per_query == 1


def test_the_watch_covers_the_run_and_says_null_for_what_it_cannot_read(product: Bundle, tmp_path: Path) -> None:
    (tmp_path / "sensor").write_text("42\n")
    (tmp_path / "bytes").write_bytes(b"\xff\x00x")
    paths = [tmp_path / "sensor", tmp_path / "none", tmp_path / "bytes", "/proc/self/mem"]
    options = [o for p in paths for o in ("--watch", p)]
    lines = said(product, "--profile", 0.3, "--samples", tmp_path / "s.safetensors", "--pin", "auto", "--watch-ms", 10, *options,
                 "--watch-command", "echo 5.0 V", "--watch-command", "exit 3")  # fmt: skip
    run = ProcessRun.load(tmp_path / "s.safetensors", lines[-1]["facts"])
    watched = [line["watch"] for line in lines[:-1]]
    assert all(w["texts"] == ["42\n", None, "\ufffd\0x", None, "5.0 V\n", None] for w in watched)
    times = [w["t_ns"] for w in watched]
    assert times == sorted(times) and times[0] < run.start_ns[0] and times[-1] > run.start_ns[-1] + run.wall_ns[-1]
    assert len(times) >= 5 and all(w["read_ns"] > 0 for w in watched)


def test_a_sensor_that_vanishes_is_null_from_then_on(product: Bundle, tmp_path: Path) -> None:
    """The command takes the sensor away at its third reading."""
    sensor, count = tmp_path / "sensor", tmp_path / "count"
    sensor.write_text("7")
    command = f'echo x >> "{count}"; [ "$(wc -l < "{count}")" -lt 3 ] || rm -f "{sensor}"'
    lines = said(product, "--energy", 0.3, "--watch-ms", 20, "--watch-command", command, "--watch", sensor)
    texts = [line["watch"]["texts"][1] for line in lines[:-1]]
    assert texts[:2] == ["7", "7"] and len(texts) > 4 and set(texts[3:]) == {None}


def test_energy_is_idle_then_back_to_back_then_idle(product: Bundle, tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("1")
    *watched, found = said(product, "--energy", 0.3, "--watch", tmp_path / "counter", "--watch-ms", 10, "--pin", "auto")
    spans = np.diff(found["edges_ns"]) / 1e9
    assert spans[0] >= 0.1 and 0.3 <= spans[1] < 1 and spans[2] >= 0.1
    assert found["inferences"] > 100 and set(found) == {"edges_ns", "inferences"}
    times = [w["watch"]["t_ns"] for w in watched]
    assert times[0] < found["edges_ns"][0] and times[-1] > found["edges_ns"][-1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--profile", "1"), "--profile and --samples go together"),
        (("--samples", "x"), "--profile and --samples go together"),
        (("--profile", "nan", "--samples", "x"), "--profile takes seconds above 0"),
        (("--energy", "-1"), "--energy takes seconds above 0"),
        (("--energy", "1", "--pin", "4095"), f"core 4095 is none of those that this process may use: {min(os.sched_getaffinity(0))}"),
        (("--energy", "1", "--pin", "x"), "--pin takes the number of a core, or auto"),
        (("--energy", "1", "--watch-ms", "0"), "--watch-ms takes a number from 1"),
        (("--energy", "1", "--pin", "auto", "--threads", "0"), "--pin keeps one thread on one core"),
        (("--watch", "x"), "--pin and --watch are for --profile and --energy"),
        (("--golden", "--energy", "1"), "one of --golden, --stream, --pcm, --make-voice, --bench and --profile at a time"),
        (("--profile", "0.01", "--samples", "/no/such/folder/s"), "/no/such/folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_timed_is_one_sentence(product: Bundle, options: tuple[str, ...], says: str) -> None:
    done = asked(product, *options)
    assert done.returncode == 2 and says in done.stderr and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
