"""Bundles of strangers on the command line: whatever their graphs do to an engine is one sentence, and honest ones answer as they should."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit import flow, machine_code
from edgekit.bundle import MANIFEST
from edgekit.intake import Wishes

INT_MIN = -(2**31)


def model(*nodes: onnx.NodeProto, constants: dict[str, np.ndarray] | None = None) -> bytes:
    """x int32 [batch, 1] -> y int32."""
    made = [onnx.numpy_helper.from_array(v, n) for n, v in (constants or {}).items()]
    graph = helper.make_graph(
        list(nodes), "g", [helper.make_tensor_value_info("x", TensorProto.INT32, ["batch", 1])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["batch", 1])], made,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def honest() -> bytes:
    return model(helper.make_node("Add", ["x", "one"], ["y"]), constants={"one": np.array([1], np.int32)})


def divides() -> bytes:
    """x - x + INT_MIN over -1: SIGFPE, once it is run."""
    return model(
        helper.make_node("Sub", ["x", "x"], ["zero"]), helper.make_node("Add", ["zero", "low"], ["least"]), helper.make_node("Div", ["least", "minus"], ["y"]),
        constants={"low": np.array([INT_MIN], np.int32), "minus": np.array([-1], np.int32)},
    )  # fmt: skip


def endless() -> bytes:
    """A loop whose condition stays true."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["a", "a"], ["b"])], "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("a", TensorProto.INT32, ["batch", 1])],
        [value("on", TensorProto.BOOL, []), value("b", TensorProto.INT32, ["batch", 1])],
    )  # fmt: skip
    return model(helper.make_node("Loop", ["", "yes", "x"], ["y"], body=body), constants={"yes": np.array(True)})


def fills() -> bytes:
    """16 GB, of which one number is kept."""
    return model(
        helper.make_node("ConstantOfShape", ["large"], ["many"], value=helper.make_tensor("v", TensorProto.INT32, [1], [1])),
        helper.make_node("ReduceMax", ["many"], ["most"], keepdims=0), helper.make_node("Add", ["x", "most"], ["y"]),
        constants={"large": np.array([1 << 32], np.int64)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fence")
    (folder / "m.onnx").write_bytes(honest())
    return flow.export(str(folder / "m.onnx"), "onnx", folder / "b", Wishes()).folder


def another(made: Path, out: Path, graph: bytes) -> Path:
    """A bundle whose hashes are right, with another graph: its manifest is none that was made here."""
    data = json.loads((made / MANIFEST).read_text())
    out.mkdir()
    for name in data["files"]:
        (out / name).write_bytes(graph if name == data["graphs"]["main"]["file"] else (made / name).read_bytes())
        data["files"][name] = hashlib.sha256((out / name).read_bytes()).hexdigest()
    data["name"] = "theirs"
    (out / MANIFEST).write_text(json.dumps(data))
    return out


def command(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "edgekit", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, check=False, env={**os.environ, **environment}, timeout=240)


def inputs(folder: Path) -> Path:
    np.savez(folder / "x.npz", x=np.array([[3], [4]], np.int32))
    return folder / "x.npz"


def children(word: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found += [int(folder.name)] if word in (folder / "cmdline").read_text() else []
        except OSError:
            continue
    return found


def test_an_honest_bundle_of_others_answers_alike_and_says_that_it_is_fenced(made: Path, tmp_path: Path):
    theirs = another(made, tmp_path / "theirs", honest())
    own, fenced, trusted = (command("run", b, "--input", inputs(tmp_path), "--json", *t) for b, t in ((made, ()), (theirs, ()), (theirs, ("--trust",))))
    assert own.returncode == fenced.returncode == trusted.returncode == 0, fenced.stderr
    assert json.loads(own.stdout) == json.loads(fenced.stdout) == json.loads(trusted.stdout)
    assert "was not made here" in fenced.stderr and not own.stderr and not trusted.stderr


@pytest.mark.parametrize(
    ("graph", "says"),
    [(divides(), "SIGFPE"), (endless(), "took more than 10 s and was stopped"), (fills(), "allocate")],
    ids=["INT_MIN by -1", "endless loop", "16 GB"],
)
@pytest.mark.parametrize("verb", ["run", "verify"])
def test_what_a_graph_does_to_an_engine_is_one_sentence(made: Path, tmp_path: Path, graph: bytes, says: str, verb: str):
    theirs = another(made, tmp_path / "theirs", graph)
    words = ("run", theirs, "--input", inputs(tmp_path), "--output", tmp_path / "out.npz") if verb == "run" else ("verify", theirs)
    begun = time.monotonic()
    done = command(*words, EDGEKIT_UNTRUSTED_SECONDS="2", EDGEKIT_UNTRUSTED_MB="2000")
    note, *lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 and "was not made here" in note and len(lines) == 1 and lines[0].startswith("error: ") and says in lines[0], done.stderr
    assert not (tmp_path / "out.npz").exists() and not children(str(theirs)) and time.monotonic() - begun < 60


def test_what_is_made_of_a_strangers_bundle_is_a_strangers(made: Path, tmp_path: Path):
    theirs = another(made, tmp_path / "theirs", honest())
    done = command("export", theirs, "--format", "openvino", "--out", tmp_path / "vino")
    assert done.returncode == 0 and "was not made here" in done.stderr, done.stderr
    again = command("verify", tmp_path / "vino")
    assert again.returncode == 0 and "was not made here" in again.stderr, again.stderr
    assert machine_code.trusted(hashlib.sha256((made / MANIFEST).read_bytes()).hexdigest())
