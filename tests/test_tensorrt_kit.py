"""The kit that a Jetson builds from: its files agree with each other, and its scripts do what they say where they can run."""

from __future__ import annotations

import ast
import hashlib
import json
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from tensorrt_models import conv_net, model, save

from edgekit import flow, registry, verify
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
from edgekit.intake import Wishes
from edgekit.parts import Runtime


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("kit")
    chosen = {"profiles": {"batch": [1, 4, 16]}}
    return flow.export(str(save(conv_net(), folder / "net.onnx")), "tensorrt-kit", folder / "made", chosen=chosen)


@pytest.fixture
def copied(kit: Bundle, tmp_path: Path) -> Path:
    """The kit as it lies on a device."""
    import shutil

    return Path(shutil.copytree(kit.folder / "kit", tmp_path / "kit"))


def python(script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-P", str(script), *map(str, arguments)], capture_output=True, text=True, check=False)


def test_it_is_planned_and_says_so(kit: Bundle):
    assert kit.label == "tensorrt-kit:f32" and kit.manifest.details["status"] == "planned"
    plan = json.loads((kit.folder / "kit/plan.json").read_text())
    assert (plan["status"], plan["device"], plan["tensorrt"]) == ("planned", "orin", "10.3")
    assert "Nothing in this folder was built or run" in (kit.folder / "kit/README.md").read_text()
    found = verify.verify(kit, registry.find(Runtime, "tensorrt_onnx"))
    assert found.passed and "ort-not-tensorrt" in found.runtime


def test_every_file_stands_in_the_sums(kit: Bundle):
    folder = kit.folder / "kit"
    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == {p.name for p in folder.iterdir()} - {"SHA256SUMS"}
    assert all(hashlib.sha256((folder / n).read_bytes()).hexdigest() == s for n, s in sums.items())


@pytest.mark.parametrize("major", [10, 11])
def test_trtexec_lines_hold_the_profile_and_no_flag_that_this_major_lacks(kit: Bundle, major: int):
    lines = (kit.folder / f"kit/trtexec{major}.sh").read_text().splitlines()
    build, time = (shlex.split(line) for line in lines if line.startswith('"$trtexec"'))
    assert {"--onnx=main.onnx", "--minShapes=x:1x3x8x8", "--optShapes=x:4x3x8x8", "--maxShapes=x:16x3x8x8", "--noTF32"} <= set(build)
    assert ("--stronglyTyped" in build) == (major == 10)
    assert not {"--fp16", "--int8", "--best", "--bf16"} & set(build)
    assert {"--loadEngine=main.plan", "--shapes=x:1x3x8x8", "--exportTimes=main.times.json"} <= set(time)
    assert subprocess.run(["sh", "-n", kit.folder / f"kit/trtexec{major}.sh"], check=False).returncode == 0


@pytest.mark.parametrize("name", ["run_tensorrt10.py", "run_tensorrt11.py", "compare.py"])
def test_scripts_compile_for_the_python_of_jetpack_6_and_need_only_numpy(kit: Bundle, name: str):
    tree = ast.parse((kit.folder / "kit" / name).read_text(), feature_version=(3, 10))
    imported = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {(n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert imported - sys.stdlib_module_names <= {"numpy", "tensorrt"}


def test_each_script_is_for_its_own_major(kit: Bundle):
    for major in (10, 11):
        assert f"\nMAJOR = {major}  # of TensorRT\n" in (kit.folder / f"kit/run_tensorrt{major}.py").read_text()


def test_compare_says_yes_no_and_nothing_there(copied: Path):
    answers = copied / "answers"
    done = python(copied / "compare.py")
    assert done.returncode == 2 and "run the script of your TensorRT first" in done.stderr
    answers.mkdir()
    with np.load(copied / "main.expected.npz") as expected:
        right = dict(expected)
    allowed = json.loads((copied / "plan.json").read_text())["graphs"]["main"]["allowed"]["y"]

    def compare(**values: np.ndarray) -> tuple[int, str]:
        np.savez(answers / "main.npz", **values)
        done = python(copied / "compare.py")
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    assert compare(**right) == (0, "main.y: same\n")
    assert compare(y=right["y"] + np.float32(allowed / 2))[0] == 0
    code, told = compare(y=right["y"] + np.float32(allowed * 2))
    assert code == 1 and "differs by" in told
    assert compare(y=right["y"][:, :-1])[0] == 1 and compare(y=right["y"].astype(np.float64))[0] == 1
    broken = right["y"].copy()
    broken[0, 0] = np.nan
    code, told = compare(y=broken)
    assert code == 1 and "not finite" in told
    assert compare(z=right["y"])[0] == 2


def test_the_expected_answers_are_those_of_the_graph(kit: Bundle):
    import onnxruntime as ort

    session = ort.InferenceSession(str(kit.folder / "kit/main.onnx"), providers=["CPUExecutionProvider"])
    with np.load(kit.folder / "kit/main.example.npz") as example, np.load(kit.folder / "kit/main.expected.npz") as expected:
        assert np.array_equal(session.run(["y"], dict(example))[0], expected["y"])
        assert np.array_equal(example["x"], kit.golden().inputs["x"])


def test_a_changed_file_is_refused_before_anything_is_built(copied: Path):
    (copied / "main.onnx").write_bytes(b"other")
    done = python(copied / "run_tensorrt10.py")
    assert done.returncode == 2 and done.stderr == "error: main.onnx is not the file that edgekit wrote; copy the kit again\n"


def test_without_tensorrt_the_script_says_where_it_comes_from(copied: Path):
    try:
        version("tensorrt")
    except PackageNotFoundError:
        done = python(copied / "run_tensorrt10.py")
        assert done.returncode == 2 and "the Python module tensorrt is not here" in done.stderr and "Traceback" not in done.stderr


def test_the_script_of_tensorrt_11_builds_with_the_library_of_the_same_api_that_needs_no_gpu(copied: Path):
    """TensorRT-RTX has the building API of TensorRT 11, so the script's own build runs here; nothing of it runs the plan."""
    try:
        version("tensorrt-rtx")
    except PackageNotFoundError:
        pytest.skip("no tensorrt-rtx: pip install 'edgekit[tensorrt-rtx]'")
    code = f"""
import json, sys
sys.path.insert(0, {str(copied)!r})
import tensorrt_rtx as trt, run_tensorrt11 as script
plan = json.loads((script.HERE / "plan.json").read_text())
script.check_files()
data = script.build(trt, trt.Logger(trt.Logger.ERROR), plan, plan["graphs"]["main"])
print(data[:4], len(data))
plan["graphs"]["main"]["profiles"]["x"] = [[4, 3, 8, 8], [2, 3, 8, 8], [8, 3, 8, 8]]
try:
    script.build(trt, trt.Logger(trt.Logger.ERROR), plan, plan["graphs"]["main"])
except script.Refused as why:
    print(why)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "b'vtrt' " in done.stdout and "the profile of main.onnx is refused" in done.stdout  # NVIDIA's code prints there too


def test_a_stream_gets_an_example_of_its_graph_with_the_states_of_the_first_step(tmp_path: Path):
    node = onnx.helper.make_node
    step = model([node("Mul", ["u", "half"], ["m"]), node("Add", ["m", "x"], ["v"]), node("Identity", ["v"], ["y"])],
                 {"x": (T.FLOAT, ("batch", 4)), "u": (T.FLOAT, ("batch", 4))}, {"v": (T.FLOAT, ("batch", 4)), "y": (T.FLOAT, ("batch", 4))},
                 {"half": np.float32(0.5)})  # fmt: skip
    made = flow.export(str(save(step, tmp_path / "s.onnx")), "tensorrt-kit", tmp_path / "k", Wishes(states={"v": "u"}))
    with np.load(made.folder / "kit/main.example.npz") as example, np.load(made.folder / "kit/main.expected.npz") as expected:
        assert not example["u"].any() and np.array_equal(expected["y"], example["x"])
    assert "its loop, states, stream" in (made.folder / "kit/README.md").read_text()


def test_a_name_that_trtexec_cannot_be_told_is_refused(tmp_path: Path):
    made = model([onnx.helper.make_node("Relu", ["a:0"], ["y"])], {"a:0": (T.FLOAT, ("batch", 4))}, {"y": (T.FLOAT, ("batch", 4))})
    with pytest.raises(EdgekitError, match="the input 'a:0' has a ':' or ','"):
        flow.export(str(save(made, tmp_path / "m.onnx")), "tensorrt-kit", tmp_path / "k")


def test_an_option_that_there_is_not_is_refused(kit: Bundle, tmp_path: Path):
    with pytest.raises(EdgekitError, match="no option of tensorrt-kit:f32 'devise'; there are: calibrator, device"):
        flow.export(kit.folder.parent / "made.onnx-f32", "tensorrt-kit", tmp_path / "k", chosen={"devise": "orin"})


def test_the_report_says_where_numerics_were_checked(small_run: Path, tmp_path: Path):
    flow.deploy(small_run, tmp_path / "run", ("tensorrt-kit",), score_limit=0, seconds=0.05, processes=1)
    found = flow.write_report(tmp_path / "run")
    assert "tensorrt-kit:f32: numerics were checked in ONNX Runtime on the graph in this bundle, not in TensorRT" in found.notes
    assert "ort-not-tensorrt" in (tmp_path / "run/report/page.html").read_text()
