"""Tasks in the C++ runtime: each runs, is checked and is timed as in Python, and what is wrong with one is said with its name."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_tasks import WIDTH, Tasked, drawn

from edgekit import embed, files, registry, remote
from edgekit.bundle import MANIFEST, Bundle, Golden, open_bundle
from edgekit.errors import Broken
from edgekit.fleet import Device
from edgekit.parts import Exporter, Runtime
from edgekit.process_run import Request
from edgekit.remote import python as remote_python
from edgekit.remote import runner as remote_runner
from edgekit.runtimes import _cpp_build, cpp
from edgekit.runtimes._cpp_session import CppSession
from edgekit.sysfs import Snapshot
from edgekit.verify import verify

TASKS = ("", "guess", "follow")
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    part = registry.find(Exporter, "onnx")
    return part.export(Tasked(), tmp_path_factory.mktemp("tasks") / "onnx", part.options)


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    part = registry.load(Runtime, "cpp")
    if part.ready():
        pytest.skip(part.ready())
    return part


def said(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """What the runner says of a folder."""
    command = [str(_cpp_build.runner(cpp.NATIVE)), str(folder), "--library", str(_cpp_build.onnxruntime_folder()), *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "EDGEKIT_PYTHON": sys.executable})


def changed(bundle: Bundle, out: Path, change: Change, goldens: dict[str, Golden] | None = None) -> Path:
    """A copy whose manifest is changed, sealed anew."""
    shutil.copytree(bundle.folder, out, ignore=shutil.ignore_patterns("evidence"))
    for name, golden in (goldens or {}).items():
        golden.save(out / name)
    data = json.loads((out / MANIFEST).read_text())
    data["files"] = {n: files.sha256_of(out / n) for n in data["files"]}
    change(data)
    (out / MANIFEST).write_text(json.dumps(data))
    return out


@pytest.mark.parametrize("task", TASKS)
def test_a_task_answers_as_in_python(made: Bundle, runtime: Runtime, task: str):
    view = made.of_task(task)
    given = {"signal": drawn(7, 21)[None]} if task == "follow" else {"x": drawn(7, 21)}
    with runtime.open(view, threads=1) as session, registry.find(Runtime, "onnxruntime").open(view, threads=1) as other:
        answers, expected = session.run(given), other.run(given)
    assert answers.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(answers[name], value, rtol=0, atol=1e-6)
    assert np.abs(answers["y"].reshape(-1, WIDTH) - Tasked().pulled(drawn(7, 21), "refine" if not task else "guess")).max() < 1e-5


def test_every_task_is_verified_and_one_is_timed(made: Bundle, runtime: Runtime, tmp_path: Path):
    found = verify(made, runtime)
    assert found.passed and set(found.tasks) == {"guess", "follow"}, found.failures
    assert verify(made.of_task("follow"), runtime).pieces_equal > 0
    for task, steps in (("", 3), ("guess", 1)):
        with runtime.open(made.of_task(task), threads=1) as session:
            assert isinstance(session, CppSession)
            assert json.loads(session.call(["--bench", "0.01"]))["steps_per_run"] == steps
            facts = session.time_itself(Request(seconds=0.02, processes=1), tmp_path / "s.safetensors")["facts"]
            assert facts["samples_per_query"] == 1 and facts["load_ms"] > 0


def test_golden_looks_at_all_tasks_or_at_one(made: Bundle, runtime: Runtime, tmp_path: Path):
    golden = made.of_task("guess").goldens()[1]
    wrong = dataclasses.replace(golden, outputs={**golden.outputs, "y": golden.outputs["y"] + 1})
    folder = changed(made, tmp_path / "wrong", lambda data: None, {"golden-guess-2.safetensors": wrong})
    done = said(folder, "--golden")
    cases = {c["file"]: c["failures"] for c in json.loads(done.stdout)["cases"]}
    assert done.returncode == 1 and [f for f, failures in cases.items() if failures] == ["golden-guess-2.safetensors"]
    assert list(cases) == ["golden.safetensors", "golden-2.safetensors", "golden-follow.safetensors", "golden-guess.safetensors", "golden-guess-2.safetensors"]
    assert said(folder, "--golden", "--task", "refine").returncode == 0 and said(folder, "--golden", "--task", "guess").returncode == 1
    assert json.loads(said(folder, "--golden", "--task", "follow").stdout)["task"] == "follow"


def program(data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = data["tasks"]["guess"]["program"]["phases"][0]
    return found


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: program(d).update(graph="other"), "runs the graph 'other'"),
        (lambda d: program(d).update(steps=2), "reads rows of 'guess/rate' [1, 1] for 'rate' of 'main'"),
        (lambda d: program(d)["inputs"].update(rate={"row": "rate"}), "reads the tensor 'rate', which tensors.safetensors does not hold"),
        (lambda d: program(d)["inputs"].update(x={"value": "z"}), "reads 'z' for 'x' of 'main'"),
        (lambda d: program(d)["inputs"].update(x={"tensor": "follow/rate"}), "gives float32 [1] to 'x' of 'main'"),
        (lambda d: program(d)["inputs"].pop("rate"), "bind"),
        (lambda d: program(d).update(outputs={"x_last": "y"}), "takes 'x_last' from the graph 'main'"),
        (lambda d: program(d).update(outputs={"x_next": "x"}), "writes 'x'"),
        (lambda d: program(d).update(carry={"x_next": "y"}, outputs={}), "to 'y'"),
        (lambda d: program(d)["epilogue"][0].update(axis=2), "takes the argmax of float32"),
        (lambda d: program(d)["epilogue"][0].update(to="other"), "never writes the output 'code'"),
        (lambda d: program(d).update(collect={"z": "none"}), "collects 'none'"),
        (lambda d: d["tasks"]["guess"]["signature"]["outputs"][0].update(shape=["batch", WIDTH + 1]), f"[batch, {WIDTH}]"),
        (lambda d: d["tasks"]["guess"]["allowed"].update(same_share={"y": 0.9}), "same_share names 'y', which is no whole-number output"),
        (lambda d: d["tasks"]["guess"]["allowed"].update(same_share={"code": 2}), "same_share of 'code' must be a number from 0 to 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_task_is_said_with_its_name_in_python_and_in_cpp(made: Bundle, runtime: Runtime, tmp_path: Path, change: Change, says: str):
    folder = changed(made, tmp_path / "b", change)
    with pytest.raises(Broken, match="task 'guess'"):
        open_bundle(folder)
    done = said(folder, "--task", "refine", "--golden")  # of a broken bundle no task runs
    assert done.returncode == 2 and "task 'guess': " in done.stderr and says in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_a_name_that_is_no_task_is_refused_in_one_sentence(made: Bundle, runtime: Runtime):
    done = said(made.folder, "--task", "gess", "--golden")
    assert done.returncode == 2 and done.stderr.endswith("there is no task 'gess' here; there are: refine, follow, guess\n") and len(done.stderr.splitlines()) == 1
    assert said(made.folder, "--task", "refine", "--bench", "0.01").returncode == 0


def decided(made: Bundle, out: Path, share: float, rows: list[int], off: list[int]) -> Bundle:
    """The task `guess` whose golden answers have another code in `rows` and another y in `off`."""
    golden = made.of_task("guess").goldens()[0]
    y, code = golden.outputs["y"].copy(), golden.outputs["code"].copy()
    code[rows] += 1
    y[off] += 1
    other = dataclasses.replace(golden, outputs={"y": y, "code": code})

    def change(data: dict[str, Any]) -> None:
        data["tasks"]["guess"]["allowed"]["same_share"] = {"code": share}

    return open_bundle(changed(made, out, change, {"golden-guess.safetensors": other})).of_task("guess")


@pytest.mark.parametrize(
    ("share", "rows", "off", "says"),
    [
        (0.6, [1, 4], [], ""),
        (0.6, [1, 4], [1, 4], ""),  # what follows from another code is another answer
        (0.6, [1, 4], [1, 2], "output 'y' differs by"),
        (0.9, [1, 4], [], "% of the places of output 'code' are equal; at least 90"),
        (0.0, [0, 1, 2, 3, 4], [0, 1, 2, 3, 4], ""),  # the second golden is compared
    ],
)
def test_samples_that_are_decided_otherwise_are_left_out_alike(
    made: Bundle, runtime: Runtime, tmp_path: Path, share: float, rows: list[int], off: list[int], says: str
):
    view = decided(made, tmp_path / "b", share, rows, off)
    found, done = verify(view, runtime), said(view.folder, "--golden", "--task", "guess")
    cases = json.loads(done.stdout)["cases"]
    assert found.passed == (not says) == (done.returncode == 0), (found.failures, done.stdout)
    assert all(says in f for f in found.failures) and any(says in f for c in cases for f in c["failures"]) == bool(says)
    assert found.same_share == pytest.approx(1 - len(rows) / 5) == min(c["same_share"]["code"] for c in cases)
    assert (sum(c["chunks_equal"] for c in cases), sum(c["chunks"] for c in cases)) == (7 - len(rows), 7)
    assert found.chunks_compared == pytest.approx((7 - len(rows)) / 7)


def test_nothing_left_to_compare_is_a_failure(made: Bundle, runtime: Runtime, tmp_path: Path):
    golden = made.of_task("guess").goldens()[1]
    both = dataclasses.replace(golden, outputs={**golden.outputs, "code": golden.outputs["code"] + 1})
    first = decided(made, tmp_path / "a", 0.0, [0, 1, 2, 3, 4], [])
    view = open_bundle(changed(first, tmp_path / "b", lambda data: None, {"golden-guess-2.safetensors": both})).of_task("guess")
    says = "every golden input is decided otherwise in every sample: nothing else could be compared"
    assert verify(view, runtime).failures == (says,)
    done = said(view.folder, "--golden", "--task", "guess")
    assert done.returncode == 1 and [f for c in json.loads(done.stdout)["cases"] for f in c["failures"]] == [says]


def test_a_device_and_an_application_are_told_the_task(made: Bundle, tmp_path: Path):
    view, device, request = made.of_task("guess"), Device("board"), Request(task="guess", energy_seconds=0)
    told = remote_runner.job("run", "lib", "bundle", request, Snapshot({}), device).steps
    assert told.count("bundle --task guess --library") == 1 + request.processes
    assert "--task" not in remote_runner.job("run", "lib", "bundle", Request(energy_seconds=0), Snapshot({}), device).steps
    assert "profile bundle --task guess" in remote_python.job(device, "bundle", request).steps
    keys = {remote._key(device, made.of_task(t), dataclasses.replace(request, task=t), None) for t in TASKS}
    assert len(keys) == len(TASKS)
    embed.embed(view, tmp_path / "app")
    assert 'APP_BUNDLE, "guess", kDigest);' in (tmp_path / "app" / "main.cpp").read_text()
    embed.embed(made, tmp_path / "own")
    assert 'moved : APP_BUNDLE, "", kDigest);' in (tmp_path / "own" / "main.cpp").read_text()
