"""A model that nobody here wrote: taken in with its states, or refused in one sentence with nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import program_fixture
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit import data, examine, flow, registry
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
from edgekit.intake import Wishes
from edgekit.parts import Runtime
from edgekit.program import Feed, Join

MODELS = '''
import torch
from torch import nn

class Running(nn.Module):
    """A buffer changed in place, one set anew, one inside a child."""
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.ones(2, 3))
        self.child = nn.Module()
        self.child.register_buffer("ring", torch.zeros(4, 3))
        self.linear = nn.Linear(3, 3)
    def forward(self, x):
        self.total += x
        self.child.ring = torch.cat([self.child.ring[1:], self.linear(x).sum(0, keepdim=True)])
        return {"mean": self.child.ring.mean(0), "total": self.total * 2}

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.drop = nn.Linear(5, 7), nn.Dropout(0.5)
    def forward(self, x, y):
        return self.drop(self.a(x)) + y, x.sum()

class Branch(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x

class Summing(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.ones(2, 3))
    def forward(self, x):
        self.total += x
        return {"total": self.total * 2}

def summing(): return Summing(), (torch.zeros(2, 3),)
def running(): return Running(), (torch.zeros(2, 3),)
def two(): return Two(), {"x": torch.zeros(3, 5), "y": torch.zeros(3, 7)}, {"x": {0: "batch"}, "y": {0: "batch"}}
class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRUCell(6, 8)
    def forward(self, x, h):
        h = self.gru(x, h)
        return h.sum(1), h

def cell(): return Cell(), (torch.zeros(1, 6), torch.zeros(1, 8))
def only(): return nn.GRUCell(6, 8), (torch.zeros(1, 6), torch.zeros(1, 8))
def branch(): return Branch(), (torch.zeros(3),)
def wrong(): return 3
'''


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("own_models", None)
    return tmp_path


def export(source: object, out: Path, **wishes: object) -> Bundle:
    return flow.export(str(source), "onnx", out, Wishes(**wishes))  # type: ignore[arg-type]


def verified(bundle: Bundle) -> Bundle:
    for engine in ("onnxruntime", "openvino"):
        found = examine.verify(bundle, engine, 0)
        assert found.passed, (engine, found.failures)
    return bundle


def run(bundle: Bundle, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with registry.find(Runtime, "onnxruntime").open(bundle) as session:
        return session.run(inputs)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch.export of torch 2.13 warns of its own code
def test_buffers_that_forward_changes_become_states(models: Path):
    import own_models
    import torch

    # torch.export itself loses a buffer that is set anew, so only the module that writes in place is saved
    torch.export.save(torch.export.export(*own_models.summing()), models / "summing.pt2")
    for source, name, states in (("own_models:running", "running", {"buffer_total", "buffer_child_ring"}),
                                 (models / "summing.pt2", "summing", {"buffer_total"})):  # fmt: skip
        torch.manual_seed(0)
        bundle = verified(export(source, models / "b", trust=True))
        stream = bundle.manifest.program.stream
        assert stream is not None and set(stream.states) == states
        x = np.random.default_rng(1).normal(size=(6, 2, 3)).astype(np.float32)
        torch.manual_seed(0)
        live = getattr(own_models, name)()[0]  # keeps its buffers from call to call
        with torch.no_grad():
            steps = [{n: v.clone().numpy() for n, v in live(torch.from_numpy(row)).items()} for row in x]
        found = run(bundle, {"x": x})
        for key, out in found.items():
            eager = [s["total" if key == "output_0" else key] for s in steps]
            np.testing.assert_allclose(out, np.stack(eager), atol=1e-5)


def test_free_dimensions_are_kept_named_and_tested_at_two_sizes(models: Path):
    bundle = verified(export("own_models:two", models / "b"))
    assert [t.shape for t in bundle.manifest.signature.inputs] == [("batch", 5), ("batch", 7)]
    assert [len(g.inputs["x"]) for g in bundle.goldens()] == [2, 3]
    assert "training mode" in bundle.manifest.golden.answers_by and "drawn" in bundle.manifest.golden.inputs_from
    assert bundle.manifest.signature.outputs[1].shape == ()


def test_a_state_that_is_named_makes_a_stream(models: Path):
    np.savez(models / "x.npz", x=np.random.default_rng(0).normal(size=(5, 1, 6)).astype(np.float32))
    bundle = verified(export("own_models:cell", models / "b", states={"output_1": "h"}, example="x.npz"))
    assert bundle.manifest.golden.inputs_from == "given: x.npz" and bundle.golden().outputs["output_0"].shape == (5, 1)
    with pytest.raises(EdgekitError, match="every output is a state"):
        export("own_models:only", models / "c", states={"output": "hx"})
    assert not (models / "c").exists()


def recurrent(path: Path, domain: str = "", opset: int = 17, dtype: int = TensorProto.FLOAT) -> Path:
    """y = 2 (h + x), h <- h + x, both [batch, 3]; with the weights 2 and an unused scalar input k."""

    def info(name: str, *shape: object, of: int = dtype):
        return helper.make_tensor_value_info(name, of, list(shape))

    nodes = [helper.make_node("Add", ["x", "h"], ["hn"]), helper.make_node("Mul", ["hn", "w"], ["m"], domain=domain), helper.make_node("Mul", ["m", "k"], ["y"])]
    graph = helper.make_graph(nodes, "g", [info("x", "batch", 3), info("h", "batch", 3), info("k")], [info("y", "batch", 3), info("hn", "batch", 3)],
                              [numpy_helper.from_array(np.full(3, 2, np.float32), "w")])  # fmt: skip
    sets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=9), path)
    return path


def test_an_onnx_file_with_a_state_a_constant_and_windows(tmp_path: Path):
    bundle = verified(export(recurrent(tmp_path / "m.onnx"), tmp_path / "b", states={"hn": "h"}, constants={"k": 3}))
    x = np.arange(12, dtype=np.float32).reshape(4, 1, 3)
    np.testing.assert_array_equal(run(bundle, {"x": x})["y"], 6 * x.cumsum(0))
    windows = verified(export(tmp_path / "m.onnx", tmp_path / "w", states={"hn": "h"}, constants={"k": 1}, sizes={"batch": 1},
                              chunks={"x": Feed(1, 3, 2)}, joins={"y": Join("last")}))  # fmt: skip
    assert windows.manifest.signature.inputs[0].shape == (1, "samples")
    samples = np.arange(1, 6, dtype=np.float32)[None]  # windows [0 1 2] [2 3 4] [4 5 0]
    np.testing.assert_array_equal(run(windows, {"x": samples})["y"], 2 * np.array([[6, 9, 6]]))


def test_silero_streams_as_a_plain_loop_over_the_original_file_does(tmp_path: Path, small_run: Path):
    for wanted in program_fixture.needs("silero"):
        if data.folder(wanted) is None:
            pytest.skip(f"no data: {wanted} is not on this machine")
    import onnxruntime as ort

    from edgekit.bundle import open_bundle

    bundle = open_bundle(program_fixture.make("silero", tmp_path, small_run))
    session = ort.InferenceSession(str(data.require("models") / "silero_vad_16k_op15.onnx"), providers=["CPUExecutionProvider"])
    sound = program_fixture.speech()
    padded = np.pad(sound[0], (64, -sound.shape[1] % 512))
    state, expected = np.zeros((2, 1, 128), np.float32), []
    for at in range(0, len(padded) - 64, 512):
        p, state = session.run(None, {"input": padded[None, at : at + 576], "state": state, "sr": np.array(16000)})
        expected.append(float(p[0, 0]))
    found = run(bundle, {"input": sound})["output"]
    assert found.shape == (1, len(expected)) and max(expected) > 0.9
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def external(path: Path, location: str, **fields: str) -> Path:
    """The recurrent model with its weights in another file."""
    model = onnx.load(recurrent(path))
    t = model.graph.initializer[0]
    t.ClearField("raw_data")
    t.data_location = TensorProto.EXTERNAL
    for key, text in {"location": location, **fields}.items():
        t.external_data.add(key=key, value=text)
    path.write_bytes(model.SerializeToString())
    return path


def test_data_in_another_file_of_the_same_folder_is_taken_in(tmp_path: Path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "w.bin").write_bytes(b"head" + np.full(3, 2, np.float32).tobytes())
    path = external(folder / "m.onnx", "w.bin", offset="4", length="12")
    bundle = verified(export(path, tmp_path / "b", states={"hn": "h"}, constants={"k": 1}))
    assert {f for f in bundle.manifest.files if not f.startswith("golden")} == {"model.onnx", "bom.json"}


@pytest.mark.parametrize("case", ["above", "absolute", "symlink", "hardlink", "short", "offset", "missing", "folder"])
def test_data_that_lies_elsewhere_is_refused(tmp_path: Path, case: str):
    folder = tmp_path / "model"
    folder.mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.full(3, 2, np.float32).tobytes())
    inside = folder / "w.bin"
    if case == "symlink":
        inside.symlink_to(secret)
    elif case == "hardlink":
        os.link(secret, inside)
    elif case == "folder":
        inside.mkdir()
    elif case != "missing":
        inside.write_bytes(b"1234" if case == "short" else secret.read_bytes())
    location = {"above": "../secret.bin", "absolute": str(secret)}.get(case, "w.bin")
    path = external(folder / "m.onnx", location, **({"offset": "-4"} if case == "offset" else {}))
    with pytest.raises(EdgekitError, match=r"keeps data in|other bounds"):
        export(path, tmp_path / "b")
    assert not (tmp_path / "b").exists()


FILES = {
    "empty": (b"", "is empty"),
    "random": (np.random.default_rng(0).bytes(3000), "no ONNX"),  # the same at each run: some begin as a pickle or a JSON file does
    "a field at random": (b"\x32\x04\xa2\xbc\xb3\x8d", "no ONNX file, or a broken one: a doc_string in a ModelProto is no UTF-8 text"),
    "page": (b"<!DOCTYPE html><html>404</html>", "web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
}


@pytest.mark.parametrize("case", [*FILES, "truncated", "domain", "opset", "string", "nodes", "absent", "directory"])
def test_a_file_that_is_no_model_is_one_sentence(tmp_path: Path, case: str):
    path = tmp_path / "m.onnx"
    if case in FILES:
        path.write_bytes(FILES[case][0])
        says = FILES[case][1]
    elif case == "truncated":
        recurrent(path)
        path.write_bytes(path.read_bytes()[:-20])
        says = "no ONNX|no valid|not all"
    elif case == "domain":
        recurrent(path, domain="acme")
        says = "outside the ONNX standard: acme.Mul"
    elif case == "opset":
        recurrent(path, opset=9999)
        says = "uses opset 9999"
    elif case == "string":
        recurrent(path, dtype=TensorProto.STRING)
        says = "no valid ONNX|which bundles do not hold"
    elif case == "nodes":
        onnx.save(helper.make_model(helper.make_graph([], "g", [], [])), path)
        says = "no graph"
    elif case == "directory":
        path.mkdir()
        says = "is a folder"
    else:
        says = "cannot read"
    done = subprocess.run([sys.executable, "-m", "edgekit", "export", str(path), "--out", str(tmp_path / "b")], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    import re

    assert re.search(says, done.stderr), done.stderr
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--state", "q:h"], "no output 'q'; there are: hn, y"),
        (["--state", "hn:q"], "no input 'q'; there are: h, k, x"),
        (["--state", "hn:k"], "needs one dtype and one shape"),
        (["--constant", "q=1"], "no input 'q'"),
        (["--state", "hn:h", "--constant", "h=1"], "is a state; it cannot be"),
        (["--chunk", "x=1:5"], "asks for windows of 5 along axis 1"),
        (["--chunk", "x"], "not of the form --chunk IN=AXIS:WINDOW[:HOP]"),
        (["--chunk", "x=1:3:4"], "not of the form"),
        (["--join", "y=sideways"], "not of the form"),
        (["--size", "rows=2"], "no such free dimension; there are: batch"),
        (["--state", "hn:h", "--example", "nothing.npz"], "is no .npz"),
        (["--format", "nir"], "not a one-timestep spiking network"),
    ],
)
def test_what_is_said_about_a_model_is_checked(tmp_path: Path, arguments: list[str], says: str):
    path = recurrent(tmp_path / "m.onnx")
    command = [sys.executable, "-m", "edgekit", "export", str(path), "--out", str(tmp_path / "b"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and says in " ".join(done.stderr.split()), done.stderr
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("own_models:wrong", "must return"),
        ("own_models:nothing", "has no function 'nothing'"),
        ("no_such_module:f", "no module 'no_such_module'"),
        ("own_models:branch", "torch.export cannot trace"),
        ("absent.pt2", "there is no file"),
    ],
)
def test_a_torch_source_that_cannot_be_taken_is_one_sentence(models: Path, source: str, says: str):
    with pytest.raises(EdgekitError, match=says):
        export(source, models / "b")
    assert not (models / "b").exists()
