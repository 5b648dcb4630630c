"""Plans that NVIDIA's own builder makes on a machine without a GPU; skipped where the proprietary library is not installed."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import defs
from tensorrt_models import conv_net, model, one, quantised, save

from edgekit import examine, flow, registry, tensorrt_native, verify
from edgekit.bundle import Bundle, open_bundle
from edgekit.errors import EdgekitError, Missing
from edgekit.parts import Exporter, Runtime
from edgekit.process_run import Request
from edgekit.tensorrt_checks import check_model
from edgekit.tensorrt_graphs import CheckedGraph
from edgekit.tensorrt_profiles import Profile
from edgekit.tensorrt_tables import VERSIONS

ROOT = Path(__file__).parent.parent
ONE = {"compute_capabilities": ["8.6"]}


@pytest.fixture(scope="module", autouse=True)
def rtx() -> None:
    try:
        version("tensorrt-rtx")
    except PackageNotFoundError:
        pytest.skip("no tensorrt-rtx: pip install 'edgekit[tensorrt-rtx]'")
    # It is installed: from here on whatever does not work is a failure, not a skip.
    importlib.import_module("tensorrt_rtx")


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("parent")
    return flow.export(str(save(conv_net(), folder / "net.onnx")), "onnx", folder / "onnx")


@pytest.fixture(scope="module")
def made(parent: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    chosen = {"compute_capabilities": ["8.6", "8.9", "12.0"], "profiles": {"batch": [1, 4, 16]}}
    return flow.export(parent.folder, "tensorrt-rtx", tmp_path_factory.mktemp("rtx") / "made", chosen=chosen)


def checked(proto: onnx.ModelProto, path: Path, **profiles: Profile) -> tuple[Path, CheckedGraph]:
    """A graph as if our own checks had let it through, so that NVIDIA's are seen."""
    data = proto.SerializeToString()
    path.write_bytes(data)
    return path, CheckedGraph("main", "net/main", "the graph", data, proto, frozenset(), profiles)


def test_our_table_of_operators_is_what_the_parser_says_of_itself():
    code = """
import json, sys, tensorrt_rtx as trt
log = trt.Logger(trt.Logger.ERROR); builder = trt.Builder(log); network = builder.create_network(0); parser = trt.OnnxParser(network, log)
print(json.dumps([name for name in json.load(sys.stdin) if parser.supports_operator(name)]))
"""
    names = sorted({s.name for s in defs.get_all_schemas() if s.domain == ""} | VERSIONS["rtx"].operators)
    done = subprocess.run([sys.executable, "-c", code], input=json.dumps(names), capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) == VERSIONS["rtx"].operators
    assert VERSIONS["10.3"].operators < VERSIONS["rtx"].operators


STRICTER = (  # what edgekit refuses on purpose though this parser reads it: what it would compute is not what the graph says, or 10.3 may not
    "which TensorRT computes in float32 without a word", "reads 9 and later", "TensorRT needs a constant there", "is of type UINT8", "not a valid ONNX model",
    *(f"of type {kind}; " for kind in ("INT8", "INT4", "FLOAT8E4M3FN", "FLOAT4E2M1")),
)  # fmt: skip


def test_over_onnx_own_cases_of_every_operator_nothing_is_refused_that_the_parser_reads_but_for_stated_reasons(tmp_path: Path):
    code = """
import sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
from onnx.backend.test.case.node import collect_testcases
for case in collect_testcases(None):
    Path(sys.argv[1], case.name + ".onnx").write_bytes(case.model.SerializeToString())
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True)
    code = """
import sys, tensorrt_rtx as trt
from pathlib import Path
class Quiet(trt.ILogger):
    def __init__(self): super().__init__()
    def log(self, severity, message): pass
log = Quiet(); builder = trt.Builder(log)
for file in sorted(Path(sys.argv[1]).glob("*.onnx")):
    network = builder.create_network(0); parser = trt.OnnxParser(network, log)
    print("verdict", file.name, parser.supports_model_v2(file.read_bytes()), flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, errors="replace", check=True)
    reads = {words[1]: words[2] == "True" for line in done.stdout.splitlines() if (words := line.split())[:1] == ["verdict"]}
    assert len(reads) > 1500
    stricter, both = [], 0
    for name, is_read in reads.items():
        try:
            check_model((tmp_path / name).read_bytes(), VERSIONS["rtx"], "the graph")
            both += is_read
        except EdgekitError as why:
            if is_read and not any(reason in str(why) for reason in STRICTER):
                stricter.append(f"{name}: {why}")
    assert not stricter
    assert both > 900


def test_a_plan_for_each_capability_beside_the_graph_that_it_was_built_from(parent: Bundle, made: Bundle):
    assert made.label == "tensorrt-rtx:f32"
    assert {f for f in made.manifest.files if f.endswith(".plan")} == {f"main.sm{n}.rtx.plan" for n in (86, 89, 120)}
    weights = sum(t.ByteSize() for t in onnx.load(made.graph()).graph.initializer)
    for plan in made.folder.glob("*.rtx.plan"):
        data = plan.read_bytes()
        assert data[:4] == b"vtrt" and len(data) > weights
    assert made.graph().read_bytes() == parent.graph().read_bytes()
    details = made.manifest.details
    assert details["status"] == "built" and "not in TensorRT" in details["numerics"] and details["engine"].startswith("TensorRT-RTX 1.")
    assert details["graphs"]["main"]["profiles"] == {"x": [[1, 3, 8, 8], [4, 3, 8, 8], [16, 3, 8, 8]]}
    assert details["graphs"]["main"]["layers"] >= 6


def test_built_twice_the_plans_are_equal_byte_for_byte(parent: Bundle, made: Bundle, tmp_path: Path):
    again = flow.export(parent.folder, "tensorrt-rtx", tmp_path / "again", chosen=dict(made.manifest.lineage.options))
    assert again.manifest.files == made.manifest.files and again.sha256 == made.sha256


def test_it_is_verified_on_the_graph_and_says_that_tensorrt_was_not_asked(made: Bundle):
    found = verify.verify(made, registry.find(Runtime, "tensorrt_onnx"))
    assert found.passed and found.output_max_abs is not None and found.output_max_abs <= 1e-5
    assert "ort-not-tensorrt" in found.runtime
    examine.verify(made, "tensorrt_onnx")
    with pytest.raises(EdgekitError, match="tensorrt_onnx is not timed"):  # a time of this processor says nothing of a GPU
        examine.profile(made, Request("tensorrt_onnx"))


def test_without_a_capability_it_is_parsed_and_not_called_built(parent: Bundle, tmp_path: Path):
    found = flow.export(parent.folder, "tensorrt-rtx", tmp_path / "p", chosen={"compute_capabilities": []})
    assert found.manifest.details["status"] == "parsed" and not list(found.folder.glob("*.plan"))


def test_symmetric_int8_parses_and_builds(tmp_path: Path):
    path, graph = checked(quantised(), tmp_path / "q.onnx")
    assert tensorrt_native.parse("tensorrt_rtx", path, graph)["layers"] > 3
    assert tensorrt_native.build("tensorrt_rtx", path, graph, tmp_path / "q.plan", "SM86")["bytes"] == (tmp_path / "q.plan").stat().st_size


@pytest.mark.parametrize(
    ("proto", "told"),
    [
        (one("BitwiseNot", T.INT32, opset=18), r"the node 'only' \(BitwiseNot\): .*UNSUPPORTED_NODE"),
        (quantised(np.uint8, zero=3), r"zero point|UINT8|Uint8"),
        (quantised(bias=True), "(?i)int32"),
        (quantised(zero=3), "(?i)zero point"),
    ],
    ids=["operator", "UINT8", "INT32 bias", "zero point"],
)
def test_what_our_checks_would_refuse_nvidias_parser_refuses_too(proto: onnx.ModelProto, told: str, tmp_path: Path):
    path, graph = checked(proto, tmp_path / "m.onnx")
    with pytest.raises(EdgekitError, match=told) as error:
        tensorrt_native.parse("tensorrt_rtx", path, graph)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"", b"not a model"], ids=["nothing", "garbage"])
def test_garbage_that_parses_well_is_found_by_what_is_missing(data: bytes, tmp_path: Path):
    path, graph = checked(onnx.ModelProto(), tmp_path / "m.onnx")
    path.write_bytes(data)
    with pytest.raises(EdgekitError, match="EMPTY|MODEL_DESERIALIZE_FAILED|cannot read"):
        tensorrt_native.parse("tensorrt_rtx", path, graph)


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"x": Profile((4, 3, 8, 8), (2, 3, 8, 8), (8, 3, 8, 8))},
        {"x": Profile((1, 3, 8), (2, 3, 8), (8, 3, 8))},
        {"x": Profile((1, 3, 9, 8), (2, 3, 9, 8), (8, 3, 9, 8))},
        {"z": Profile((1, 3, 8, 8), (2, 3, 8, 8), (8, 3, 8, 8))},
    ],
    ids=["none", "min above opt", "rank", "fixed size", "name"],
)
def test_a_wrong_profile_gives_no_plan_and_a_sentence(profile: dict[str, Profile], tmp_path: Path):
    path, graph = checked(conv_net(), tmp_path / "m.onnx", **profile)
    with pytest.raises(EdgekitError, match="tensorrt_rtx .* builds no plan for SM86: ") as error:
        tensorrt_native.build("tensorrt_rtx", path, graph, tmp_path / "m.plan", "SM86")
    assert "\n" not in str(error.value) and not (tmp_path / "m.plan").exists()


def test_a_chip_that_cannot_run_the_model_is_told_in_nvidias_words_and_nothing_is_left(parent: Bundle, tmp_path: Path):
    with pytest.raises(EdgekitError, match=r"builds no plan for SM75: .*FP32 GEMM is not supported"):
        flow.export(parent.folder, "tensorrt-rtx", tmp_path / "t", chosen={"compute_capabilities": ["7.5"]})
    assert list(tmp_path.iterdir()) == []


def test_our_own_checks_come_first_through_the_command_line(tmp_path: Path):
    save(model([onnx.helper.make_node("BitwiseNot", ["x"], ["y"], name="flip")], {"x": (T.INT32, (2,))}, {"y": (T.INT32, (2,))}, opset=18), tmp_path / "m.onnx")
    command = [sys.executable, "-m", "edgekit", "export", "m.onnx", "--format", "tensorrt-rtx", "--out", "out"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "the node 'flip' (BitwiseNot) is an operator that TensorRT-RTX 1.7 does not read" in done.stderr


def test_a_stream_keeps_its_program_and_gets_plans(tmp_path: Path):
    node = onnx.helper.make_node
    step = model([node("Mul", ["u", "half"], ["m"]), node("Add", ["m", "x"], ["v"])], {"x": (T.FLOAT, ("batch", 4)), "u": (T.FLOAT, ("batch", 4))},
                 {"v": (T.FLOAT, ("batch", 4)), }, {"half": np.float32(0.5)})  # fmt: skip
    step.graph.node.append(node("Identity", ["v"], ["y"]))
    step.graph.output.append(onnx.helper.make_tensor_value_info("y", T.FLOAT, ["batch", 4]))
    from edgekit.intake import Wishes

    found = flow.export(str(save(step, tmp_path / "s.onnx")), "tensorrt-rtx", tmp_path / "s", Wishes(states={"v": "u"}), ONE)
    assert found.manifest.program.stream is not None and (found.folder / "main.sm86.rtx.plan").is_file()
    assert verify.verify(found, registry.find(Runtime, "tensorrt_onnx")).passed
    assert open_bundle(found.folder).sha256 == found.sha256


def test_a_library_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch, parent: Bundle, tmp_path: Path):
    monkeypatch.setattr(registry, "missing_modules", lambda names: [n for n in names if n == "tensorrt_rtx"])
    with pytest.raises(Missing, match=r"exporter 'tensorrt_rtx' needs tensorrt_rtx, not installed here: pip install 'edgekit\[tensorrt-rtx\]'"):
        flow.export(parent.folder, "tensorrt-rtx", tmp_path / "x")
    assert registry.load(Exporter, "tensorrt_rtx").extra == "tensorrt-rtx"


def test_int8_goes_all_the_way_from_float_and_samples_to_plans(tmp_path: Path):
    from edgekit.intake import Wishes

    np.savez(tmp_path / "samples.npz", x=np.random.default_rng(0).standard_normal((48, 3, 8, 8)).astype(np.float32))
    wishes = Wishes(calibration=str(tmp_path / "samples.npz"))
    made = flow.export(str(save(conv_net(), tmp_path / "net.onnx")), "tensorrt-rtx:int8", tmp_path / "q", wishes, ONE)
    assert made.label == "tensorrt-rtx:int8" and made.manifest.details["status"] == "built"
    kinds = {t.data_type for t in onnx.load(made.graph()).graph.initializer}
    assert T.INT8 in kinds and T.INT32 not in kinds and T.UINT8 not in kinds
    found = verify.verify(made, registry.find(Runtime, "tensorrt_onnx"))
    assert found.passed and found.sqnr_db is not None and found.sqnr_db > 15


def test_f16_goes_all_the_way_to_plans(tmp_path: Path):
    made = flow.export(str(save(conv_net(), tmp_path / "net.onnx")), "tensorrt-rtx:f16", tmp_path / "h", chosen=ONE)
    assert made.label == "tensorrt-rtx:f16"
    assert b"half" in (made.folder / "main.sm86.rtx.plan").read_bytes().lower()
    assert verify.verify(made, registry.find(Runtime, "tensorrt_onnx")).passed


def test_an_input_that_decides_shapes_is_refused(tmp_path: Path):
    proto = model([onnx.helper.make_node("Reshape", ["x", "shape"], ["y"], name="reshape")],
                  {"x": (T.FLOAT, (2, 4)), "shape": (T.INT64, (2,))}, {"y": (T.FLOAT, ("a", "b"))})  # fmt: skip
    path, graph = checked(proto, tmp_path / "m.onnx")
    with pytest.raises(EdgekitError, match="the input 'shape' decides shapes inside the graph"):
        tensorrt_native.parse("tensorrt_rtx", path, graph)


def test_a_child_that_dies_or_hangs_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    child = tmp_path / "child.py"
    monkeypatch.setattr(tensorrt_native, "CHILD", child)
    child.write_text("import ctypes\nctypes.string_at(0)\n")
    with pytest.raises(EdgekitError, match="tensorrt_rtx was ended by SIGSEGV while it was asked to build"):
        tensorrt_native.call("tensorrt_rtx", "build")
    monkeypatch.setattr(tensorrt_native, "LIMIT_S", 0.5)
    child.write_text("import time\ntime.sleep(60)\n")
    with pytest.raises(EdgekitError, match="took more than 0.5 s to build and was stopped"):
        tensorrt_native.call("tensorrt_rtx", "build")


def test_a_crash_in_the_library_is_one_sentence(tmp_path: Path):
    with pytest.raises(EdgekitError, match="failed while it was asked to parse: .*No such file"):
        tensorrt_native.call("tensorrt_rtx", "parse", model=str(tmp_path / "nowhere.onnx"), name="x")
