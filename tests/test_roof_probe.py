"""What a machine can do at most is measured once by a process of its own, kept, and only ever raised."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from edgekit.errors import EdgekitError
from edgekit.figures import UNITS
from edgekit.roofline import kernels as roof_kernels
from edgekit.roofline import probe as roof_probe

TOLD = {
    "roof": {
        "threads": 1, "compute_gops": {"f32": 100.0, "int8": 400.0}, "bandwidth_gb_s": 30.0,
        "how": {"f32": "numpy matmul", "int8": "onnxruntime", "bandwidth": "numpy copy", "overhead": "small graphs"},
    },
    "call_us": 2.0, "node_us": 0.3, "pressure": 0.0,
}  # fmt: skip


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """A cache of the test's own, and a machine that measures at once; the list of what was asked."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(roof_probe, "_SEEN", set())
    asked: list[int] = []
    answer = dict(TOLD)

    def at_once(threads: int) -> dict[str, object]:
        asked.append(threads)
        return {**answer, "roof": {**answer["roof"], "threads": threads}}

    monkeypatch.setattr(roof_probe, "_measured", at_once)
    return asked, answer


def test_a_roof_is_measured_once_for_each_number_of_threads_and_kept(measured):
    asked, _ = measured
    first = [roof_probe.probe(n) for n in (1, 0, 1, 0)]
    assert asked == [1, 0]
    assert first[:2] == first[2:]
    assert first[0].roof.compute_gops == {"f32": 100.0, "int8": 400.0}
    assert first[0].cores >= 1
    assert first[0].processor
    assert first[0].made.endswith("Z")


def test_measuring_anew_only_raises_a_roof(measured):
    asked, answer = measured
    roof_probe.probe(1)
    answer |= {"roof": {**TOLD["roof"], "compute_gops": {"f32": 90.0, "bf16": 300.0}, "bandwidth_gb_s": 40.0,
                        "how": {"f32": "slower", "bf16": "openvino", "bandwidth": "numpy dot", "overhead": "again"}}, "call_us": 1.5}  # fmt: skip
    found = roof_probe.probe(1, fresh=True)
    assert asked == [1, 1]
    assert found.roof.compute_gops == {"f32": 100.0, "int8": 400.0, "bf16": 300.0}
    assert (found.roof.how["f32"], found.roof.how["bf16"], found.roof.how["bandwidth"]) == ("numpy matmul", "openvino", "numpy dot")
    assert (found.roof.bandwidth_gb_s, found.call_us, found.node_us) == (40.0, 1.5, 0.3)
    assert roof_probe.probe(1) == found


def test_a_roof_of_a_busy_machine_is_measured_again_by_the_next_process(measured, monkeypatch):
    asked, answer = measured
    answer["pressure"] = 0.8
    assert roof_probe.probe(1).busy.startswith("the roof was measured while some task waited for a CPU 80 % of the time")
    roof_probe.probe(1)
    assert asked == [1]  # not twice by one process
    monkeypatch.setattr(roof_probe, "_SEEN", set())
    answer["pressure"] = 0.05
    assert (roof_probe.probe(1).pressure, roof_probe.probe(1).busy) == (0.05, "")
    monkeypatch.setattr(roof_probe, "_SEEN", set())
    roof_probe.probe(1)
    assert asked == [1, 1]


@pytest.mark.parametrize("left", ["", "not JSON", "[]", '{"roof": 3}'])
def test_a_broken_cache_is_measured_over(measured, left, tmp_path):
    asked, _ = measured
    roof_probe.probe(1)
    (file,) = (tmp_path / "cache" / "roof").glob("*.json")
    file.write_text(left)
    assert roof_probe.probe(1).call_us == 2.0
    assert asked == [1, 1]
    assert json.loads(file.read_text())["call_us"] == 2.0


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(measured, monkeypatch, tmp_path):
    asked, _ = measured
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "file" / "cache"))
    assert roof_probe.probe(1) == dataclasses.replace(roof_probe.probe(1), made=roof_probe.probe(1).made)
    assert len(asked) == 3


def test_another_processor_or_library_has_a_roof_of_its_own(measured, monkeypatch):
    asked, _ = measured
    roof_probe.probe(1)
    monkeypatch.setattr(roof_probe, "_versions", lambda: {"numpy": "99"})
    roof_probe.probe(1)
    assert asked == [1, 1]


def test_what_a_user_told_a_library_does_not_limit_the_machine(monkeypatch):
    seen = {}

    def run(command, env, **_):
        seen.update(env)
        return subprocess.CompletedProcess(command, 0, json.dumps(TOLD), "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    roof_probe._measured(1)
    assert "OPENBLAS_CORETYPE" not in seen
    assert seen["OPENBLAS_NUM_THREADS"] == "1"


def test_a_process_that_fails_says_why(monkeypatch):
    died = subprocess.CompletedProcess([], 1, "", "Traceback\nMemoryError: no room\n")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: died)
    with pytest.raises(EdgekitError, match="failed: MemoryError: no room"):
        roof_probe._measured(1)
    with pytest.raises(EdgekitError, match="not negative"):
        roof_probe.probe(-1)


def test_the_figures_are_those_that_targets_know(measured):
    found = roof_probe.figures(roof_probe.probe(1))
    assert {f.name: f.value for f in found} == {"compute_f32": 100.0, "compute_int8": 400.0, "bandwidth": 30.0}
    assert all(UNITS[f.name] == f.unit and f.grade == "measured" for f in found)


def test_the_real_process_takes_the_best_of_several_kernels():
    """What no one kernel of the test's own is far above: a roof that a plain product beats would be none."""
    done = subprocess.run([sys.executable, "-m", "edgekit.roofline.kernels", "1"], capture_output=True, text=True, check=True, env=None)
    told = json.loads(done.stdout)
    roof = told["roof"]
    assert roof["compute_gops"].keys() >= {"f32", "int8"}
    assert roof["how"].keys() >= {*roof["compute_gops"], "bandwidth", "overhead"}
    assert 1 < roof["compute_gops"]["f32"] < 1e5
    assert 0.5 < roof["bandwidth_gb_s"] < 1e4
    assert 0.1 < told["call_us"] < 1e4
    assert 0 <= told["node_us"] < 1e3


@pytest.mark.parametrize("make", [roof_kernels._float_product, roof_kernels._whole_product, roof_kernels._rounded_product])
def test_the_products_are_products(make):
    """All ones: each element of the result is the length of the inner side, in the scale of the form."""
    import onnxruntime as ort

    session = ort.InferenceSession(make(8), providers=["CPUExecutionProvider"])
    kind = np.float32 if make is roof_kernels._float_product else np.uint8
    (answer,) = session.run(None, {"a": np.full((8, 8), 100 if make is roof_kernels._rounded_product else 1, kind)})
    assert set(answer.ravel()) == {8}


def test_the_chain_of_additions_is_not_shortened():
    import onnxruntime as ort

    session = ort.InferenceSession(roof_kernels._additions(5), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"a": np.ones((1, 8), np.float32)})
    assert set(answer.ravel()) == {13.0}  # Fibonacci: 2, 3, 5, 8, 13
