"""Models that nobody here wrote: nested inputs, odd shapes, lists of weights, tokens, sizes in multiples, hidden noise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit import examine, flow
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
from edgekit.intake import Wishes
from edgekit.program import Feed

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
BOTH_PAST = {"output_1_0": "state_0", "output_1_1": "state_1"}


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_zoo.py").write_text(Path(__file__).with_name("own_zoo.py").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def export(source: object, out: Path, **wishes: object) -> Bundle:
    bundle = flow.export(str(source), "onnx", out, Wishes(**wishes))  # type: ignore[arg-type]
    for engine in ("onnxruntime", "openvino"):
        found = examine.verify(bundle, engine, 0)
        assert found.passed, (engine, found.failures)
    return bundle


@pytest.mark.parametrize(
    ("name", "wishes", "takes", "gives"),
    [
        ("nested", {}, {"x": (1, 5, 8), "state_0": (2, 1, 16), "state_1": (2, 1, 16)},
         {"output_0": (1, 5, 3), "output_1_0": (2, 1, 16), "output_1_1": (2, 1, 16)}),
        ("nested", {"states": BOTH_PAST}, {"x": ("steps", 1, 5, 8)}, {"output_0": ("steps", 1, 5, 3)}),
        ("sequence", {}, {"x": ("batch", "time", 8)}, {"output": ("batch", 16)}),
        ("sequence", {"sizes": {"time": 20}}, {"x": ("batch", 20, 8)}, {"output": ("batch", 16)}),
        ("tokens", {}, {"ids": ("batch", "time"), "mask": ("batch", "time")}, {"output": ("batch", 2)}),
        ("pixels", {}, {"image": ("batch", 3, "height", "width")}, {"output": ("batch", 8)}),
        ("multiples", {}, {"x": (1, 2, "x_2")}, {"output": (1, 2, "x_2")}),
        ("attention", {}, {"x": ("steps", 1, 8)}, {"output": ("steps", 1, 8)}),
        ("causal", {"chunks": {"x": Feed(2, 8, 8)}}, {"x": (1, 2, "samples")}, {"output": (1, 4, "frames")}),
        ("changing", {}, {"x": (2, 3)}, {"inner_0": (2, 3), "positive": (2, 3), "half": (2, 3)}),
    ],
)  # fmt: skip
def test_torch_models_of_all_kinds_become_bundles(zoo: Path, name: str, wishes: dict, takes: dict, gives: dict):
    bundle = export(f"own_zoo:{name}", zoo / "b", **wishes)
    signature = bundle.manifest.signature
    assert {t.name: t.shape for t in signature.inputs} == takes
    assert {t.name: t.shape for t in signature.outputs} == gives
    free = {n for shape in takes.values() for n in shape if isinstance(n, str)} - {"steps", "samples"}
    first, *more = bundle.goldens()
    for t in signature.inputs if free else ():
        for axis, n in enumerate(t.shape):
            assert n not in free or first.inputs[t.name].shape[axis] != more[0].inputs[t.name].shape[axis]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # torch.export of torch 2.13 warns of its own code
def test_a_saved_program_keeps_nested_inputs_keywords_and_free_sizes(zoo: Path):
    import torch
    from own_zoo import multiples, nested, tokens

    for name, made, dynamic in (("nested", nested(), None), ("tokens", tokens(), "AUTO"), ("multiples", multiples(), None)):
        module, inputs = made[0].eval(), made[1]
        shapes = ({0: torch.export.Dim("b"), 1: torch.export.Dim("t")},) * 2 if dynamic else tuple(made[2].values()) if len(made) > 2 else None
        torch.export.save(torch.export.export(module, inputs, dynamic_shapes=shapes), zoo / f"{name}.pt2")
    assert [t.name for t in export("nested.pt2", zoo / "n", trust=True).manifest.signature.inputs] == ["x", "state_0", "state_1"]
    assert [len(g.inputs["ids"]) for g in export("tokens.pt2", zoo / "t", trust=True).goldens()] == [2, 3]
    assert [g.inputs["x"].shape[2] % 4 for g in export("multiples.pt2", zoo / "m", trust=True).goldens()] == [0, 0]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("noise", "draws random numbers inside"),
        ("attribute", "remembers something between calls that is no buffer"),
        ("one_size", "takes none but 6"),
    ],
)
def test_what_no_graph_can_hold_is_refused(zoo: Path, name: str, says: str):
    with pytest.raises(EdgekitError, match=says):
        flow.export(f"own_zoo:{name}", "onnx", zoo / "b", Wishes())
    assert not (zoo / "b").exists()


def graph(path: Path, nodes: list, inputs: dict, outputs: dict, weights: dict | None = None) -> Path:
    """An ONNX file; inputs and outputs as {name: (type, shape)}."""
    values = [[helper.make_tensor_value_info(n, *v) for n, v in side.items()] for side in (inputs, outputs)]
    made = helper.make_graph(nodes, "g", *values, [onnx.numpy_helper.from_array(w, n) for n, w in (weights or {}).items()])
    path.write_bytes(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    return path


def test_weights_that_are_listed_as_inputs_are_none(tmp_path: Path):
    path = graph(tmp_path / "m.onnx", [helper.make_node("Mul", ["x", "w"], ["y"])], {"x": (FLOAT, ["n"]), "w": (FLOAT, [1])},
                 {"y": (FLOAT, ["n"])}, {"w": np.array([3], np.float32)})  # fmt: skip
    assert [t.name for t in export(path, tmp_path / "b").manifest.signature.inputs] == ["x"]


@pytest.mark.parametrize("unknown", [-1, 0, "?"])
def test_sizes_that_mean_an_unknown_one_are_free_and_not_equal(tmp_path: Path, unknown: int | str):
    nodes = [helper.make_node("Pad", ["x", "p"], ["wide"], mode="reflect"), helper.make_node("ReduceMax", ["wide"], ["y"], axes=[2])]
    path = graph(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [unknown, 3, unknown])}, {"y": (FLOAT, [unknown, 3, 1])},
                 {"p": np.array([0, 0, 20, 0, 0, 20])})  # fmt: skip
    bundle = export(path, tmp_path / "b")  # twenty values are mirrored, so the input must be longer than that
    assert bundle.manifest.signature.inputs[0].shape == ("x_0", 3, "x_2")
    assert all(g.inputs["x"].shape[2] > 20 for g in bundle.goldens())
    assert "x_0 2 and 3" in bundle.manifest.golden.inputs_from


@pytest.mark.parametrize(("said", "true"), [(["n", 3], ("y_0", 3)), (["n", "m", 3], ("y_0", "y_1"))])
def test_output_shapes_that_do_not_hold_are_mended(tmp_path: Path, said: list, true: tuple):
    nodes = [helper.make_node("Shape", ["x"], ["size"]), helper.make_node("Concat", ["x", "x"], ["twice"], axis=0),
             helper.make_node("Mul", ["size", "by"], ["doubled"]), helper.make_node("Greater", ["doubled", "zero"], ["all"]),
             # Compress hides from shape inference how many axes there are
             helper.make_node("Compress", ["doubled", "all"], ["shape"]), helper.make_node("Reshape", ["twice", "shape"], ["y"])]  # fmt: skip
    weights = {"by": np.array([2, 1]), "zero": np.array([0])}
    path = graph(tmp_path / "m.onnx", nodes, {"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, said)}, weights)
    bundle = flow.export(str(path), "onnx", tmp_path / "b", Wishes())
    assert examine.verify(bundle, "onnxruntime", 0).passed
    assert bundle.manifest.signature.outputs[0].shape == true
    assert [o.shape[0] for g in bundle.goldens() for o in g.outputs.values()] == [4, 6]


def test_an_output_without_values_is_compared_by_its_shape(tmp_path: Path):
    path = graph(tmp_path / "m.onnx", [helper.make_node("Slice", ["x", "a", "a"], ["y"])], {"x": (FLOAT, [4, 5])}, {"y": (FLOAT, ["k", 5])},
                 {"a": np.array([1])})  # fmt: skip
    assert export(path, tmp_path / "b").goldens()[0].outputs["y"].shape == (0, 5)


def test_an_index_is_drawn_small_enough(tmp_path: Path):
    path = graph(tmp_path / "m.onnx", [helper.make_node("Gather", ["w", "i"], ["y"])], {"i": (INT64, ["n"])}, {"y": (FLOAT, ["n", 2])},
                 {"w": np.ones((3, 2), np.float32)})  # fmt: skip
    assert "whole numbers 0 to 1" in export(path, tmp_path / "b").manifest.golden.inputs_from


@pytest.mark.parametrize(
    ("sizes", "says"), [({}, "free size 'p', which no input decides"), ({"p": 8}, r"'present' is \[9, 4\] where the state 'past' is \[8, 4\]|dimensions")]
)
def test_a_state_that_grows_is_refused(tmp_path: Path, sizes: dict, says: str):
    nodes = [helper.make_node("Concat", ["past", "x"], ["present"], axis=0), helper.make_node("ReduceMean", ["present"], ["y"], axes=[0])]
    path = graph(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [1, 4]), "past": (FLOAT, ["p", 4])}, {"y": (FLOAT, [1, 4]), "present": (FLOAT, ["q", 4])})
    with pytest.raises(EdgekitError, match=says):
        flow.export(str(path), "onnx", tmp_path / "b", Wishes(states={"present": "past"}, sizes=sizes))


def test_noise_inside_a_graph_is_refused(tmp_path: Path):
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["r"]), helper.make_node("Add", ["x", "r"], ["y"])]
    path = graph(tmp_path / "m.onnx", nodes, {"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, ["n", 3])})
    with pytest.raises(EdgekitError, match="draws random numbers inside"):
        flow.export(str(path), "onnx", tmp_path / "b", Wishes())


def test_an_engine_that_refuses_a_model_hides_no_other(tmp_path: Path):
    """OpenVINO has no Det."""
    path = graph(tmp_path / "m.onnx", [helper.make_node("Det", ["x"], ["y"])], {"x": (FLOAT, [4, 3, 3])}, {"y": (FLOAT, [4])})
    bundle = flow.export(str(path), "onnx", tmp_path / "b", Wishes())
    command = [sys.executable, "-m", "edgekit", "verify", str(bundle.folder), "--all-runtimes"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    rows = {v["engine"]: v for v in json.loads(done.stdout)["verifications"]}
    assert rows["onnxruntime"]["passed"] and not rows["openvino"]["passed"] and done.returncode == shown.returncode == 1
    assert rows["openvino"]["failures"][0].startswith("openvino cannot open")
    assert "Traceback" not in shown.stderr and "refused" in shown.stdout


def test_an_engine_that_dies_of_a_model_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = graph(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])})
    bundle = flow.export(str(path), "onnx", tmp_path / "b", Wishes())
    dying = tmp_path / "python"
    dying.write_text(f'#!/bin/sh\ncase "$*" in *openvino*) kill -SEGV $$ ;; *) exec {sys.executable} "$@" ;; esac\n')
    dying.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dying))
    found = {name: v for _, name, v in examine.verify_everywhere([bundle])[0]}
    assert found["onnxruntime"].passed
    assert found["openvino"].failures == ("openvino was ended by SIGSEGV while it ran this bundle",)
