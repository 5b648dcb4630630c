"""Fuzz targets of ONNX files: the look at the bytes, the checks of this process, and the whole intake with its child process."""

from __future__ import annotations

import contextlib
import copy
import os
import random
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from fuzz_base import PLACE, File, Target
from onnx import TensorProto, helper, numpy_helper

from edgekit import onnx_checks, untrusted, wire
from edgekit.intake import Wishes, plan, read
from edgekit.intake_golden import Final
from edgekit.intake_onnx import _put_plainly, _signature
from edgekit.untrusted_process import Child


def _onnx_seeds() -> tuple[bytes, ...]:
    def info(name: str, *shape: Any, kind: int = TensorProto.FLOAT):
        return helper.make_tensor_value_info(name, kind, shape)

    def model(nodes: list, inputs: list, outputs: list, weights: tuple = (), functions: tuple = ()) -> bytes:
        sets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
        return helper.make_model(graph, opset_imports=sets, ir_version=8, functions=functions).SerializeToString()

    out, w = [info("b", 2)], numpy_helper.from_array(np.array([1, 2], np.float32), "w")
    then = helper.make_graph([helper.make_node("Constant", [], ["k"], value=w), helper.make_node("Add", ["x", "k"], ["b"])], "t", [], out)
    other = helper.make_graph([helper.make_node("Relu", ["x"], ["b"])], "e", [], out)
    one = model([helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other, name="branch")], [info("x", 2), info("c", kind=TensorProto.BOOL)], [info("y", 2)])
    f = helper.make_function("own", "f", ["p"], ["q"], [helper.make_node("Relu", ["p"], ["q"])], [helper.make_opsetid("", 17)])
    two = model([helper.make_node("f", ["x"], ["m"], domain="own"), helper.make_node("Add", ["m", "w"], ["a"]), helper.make_node("QuantizeLinear", ["a", "s", "z"], ["q"]),
                 helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])], [info("x", "n", 2)], [info("y", "n", 2)],
                [w, numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.uint8(3), "z")], [f])  # fmt: skip
    sparse = helper.make_sparse_tensor(numpy_helper.from_array(np.float32([1]), "s"), numpy_helper.from_array(np.array([0]), "i"), [2])
    graph = helper.make_graph([helper.make_node("Add", ["x", "s"], ["y"], doc_string="d")], "g", [info("x", 2)], [info("y", 2)], sparse_initializer=[sparse])
    three = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(three, {"k": "v"})
    four = helper.make_model(helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [info("x", 2)], [info("y", 2)], [w]), opset_imports=[helper.make_opsetid("", 17)])
    t = four.graph.initializer[0]
    t.ClearField("raw_data")
    t.data_location = 1
    for key, said in (("location", "w.bin"), ("offset", "0"), ("length", "8")):
        t.external_data.add(key=key, value=said)
    return one, two, three.SerializeToString(), four.SerializeToString()


def _onnx(stack: ExitStack) -> Target:
    file = File(".onnx", stack)
    (file.folder / "w.bin").write_bytes(bytes(8))

    def read(raw: bytes) -> None:
        _, proto = untrusted.read_model(file.of(raw))
        _put_plainly(proto)
        plan(_signature(file.path, proto), Wishes(), {}, {})
        onnx_checks.first_random(proto)
        proto.SerializeToString(deterministic=True)

    return Target(read, _onnx_seeds(), _mutated_proto)


def _model_seeds() -> tuple[bytes, ...]:
    """Models of operators that real ones are made of, so that mutants of them reach an engine's kernels."""

    def info(name: str, *shape: Any, kind: int = TensorProto.FLOAT):
        return helper.make_tensor_value_info(name, kind, shape)

    def model(nodes: list, inputs: list, outputs: list, **weights: Any) -> bytes:
        held = [numpy_helper.from_array(np.asarray(v), n) for n, v in weights.items()]
        graph = helper.make_graph(nodes, "g", inputs, outputs, held)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()

    rng, n = np.random.default_rng(0), helper.make_node
    w = rng.normal(size=(2, 1, 3, 3)).astype(np.float32)
    conv = model([n("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]), n("MaxPool", ["c"], ["p"], kernel_shape=[2, 2]), n("Flatten", ["p"], ["f"]),
                  n("Gemm", ["f", "d"], ["y"], transB=1)], [info("x", "batch", 1, 8, 8)], [info("y", "batch", 3)], w=w, b=np.float32([0, 1]),
                 d=rng.normal(size=(3, 18)).astype(np.float32))  # fmt: skip
    shape = model([n("Shape", ["x"], ["s"]), n("Gather", ["s", "i"], ["k"]), n("Div", ["k", "two"], ["h"]), n("Concat", ["two", "h"], ["r"], axis=0),
                   n("Reshape", ["x", "r"], ["z"]), n("Transpose", ["z"], ["t"], perm=[1, 0]), n("Slice", ["t", "zero", "one", "zero"], ["y"])],
                  [info("x", 6)], [info("y", 1, 2)], i=np.int64([0]), two=np.int64([2]), zero=np.int64([0]), one=np.int64([1]))  # fmt: skip
    body = helper.make_graph([n("Identity", ["go"], ["on"]), n("Add", ["v", "v"], ["w"])], "body", [info("i", kind=7), info("go", kind=9), info("v", 2)], [info("on", kind=9), info("w", 2)])
    loop = model([n("Loop", ["m", "", "x"], ["y"], body=body)], [info("x", 2)], [info("y", 2)], m=np.int64(3))
    cell = model([n("LSTM", ["x", "w", "r"], ["o", "y"], hidden_size=2)], [info("x", "steps", 1, 3)], [info("y", 1, 1, 2)],
                 w=rng.normal(size=(1, 8, 3)).astype(np.float32), r=rng.normal(size=(1, 8, 2)).astype(np.float32))  # fmt: skip
    return (*_onnx_seeds()[:2], conv, shape, loop, cell)


def _left_children() -> set[str]:
    return {c for task in Path("/proc/self/task").iterdir() for c in (task / "children").read_text().split()}


def _intake(stack: ExitStack) -> Target:
    """The whole way of `edgekit export m.onnx`, with a process of its own for every model; those that begin one are counted."""
    file, seeds, counts = File(".onnx", stack), _model_seeds(), dict[str, int]()
    before, begin = _left_children(), Child._begin
    environment = {"EDGEKIT_UNTRUSTED_SECONDS": "10", "TMPDIR": str(file.folder)}
    stack.enter_context(mock.patch.dict(os.environ, environment))
    stack.enter_context(mock.patch.object(tempfile, "tempdir", None))  # looked up again

    def counted(child: Child) -> None:
        counts["processes"] = counts.get("processes", 0) + 1
        begin(child)

    stack.enter_context(mock.patch.object(Child, "_begin", counted))

    def at_end(raw: bytes) -> None:
        try:
            read(str(file.of(raw)), Wishes())
            counts["answered"] = counts.get("answered", 0) + 1
        except Final:
            counts["died_or_differed"] = counts.get("died_or_differed", 0) + 1
            raise
        finally:
            assert _left_children() == before, "a process was left"
            left = {p.name for p in file.folder.iterdir()} - {file.path.name, ".ses"}  # .ses: ONNX Runtime's own, once a machine
            assert not left, f"{left} was left"

    return Target(at_end, seeds, lambda which, rng: _mutated_proto(which, rng, seeds), counts)


NUMBERS = (0, 1, -1, 2, 7, 99, 2**31 - 1, -(2**31), 2**62, -(2**63))
NAMES = ("", "x", "y", "w", "b", "n", "Add", "Relu", "Loop", "own", "f", "ai.onnx", "\x1b[0m", "a\0", "../w.bin", "w.bin", "-1", "location", "\u202e")


def _mutated_proto(which: int, rng: random.Random, seeds: tuple[bytes, ...] = ()) -> bytes:
    """A model with some of its fields changed, dropped, said twice or taken from another place; the bytes around them are right."""
    import onnx

    proto = onnx.load_from_string((seeds or _SEEDS)[which])
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        every, pending = [], [proto]
        while pending:
            m = pending.pop()
            every.append(m)
            for f, v in m.ListFields():
                if f.message_type is not None:
                    pending += list(v) if f.is_repeated else [v]
        m = rng.choice(every)
        f = rng.choice(m.DESCRIPTOR.fields)
        held = getattr(m, f.name)
        if rng.random() < 0.2:
            m.ClearField(f.name)
        elif f.message_type is not None:
            same = [o for o in every if o.DESCRIPTOR is f.message_type]
            other = copy.deepcopy(rng.choice(same)) if same else None
            if f.is_repeated:
                held.add() if other is None else held.append(other)
            elif other is not None and other.ByteSize() < 2000:
                held.CopyFrom(other)
        else:
            new = {9: rng.choice(NAMES), 12: rng.randbytes(rng.choice((0, 1, 4, 8, 9))), 2: rng.choice((0.0, -1.0, 1e30, float("nan"), float("inf"))),
                   1: rng.choice((0.0, -1.0, float("nan"))), 14: rng.randrange(8)}.get(f.type, rng.choice(NUMBERS))  # fmt: skip
            with contextlib.suppress(ValueError, OverflowError):  # too large for the field: nothing was changed
                held.append(new) if f.is_repeated else setattr(m, f.name, new)
    return bytes(proto.SerializeToString())


_SEEDS = _onnx_seeds()


TARGETS = {
    "onnx": _onnx,
    "wire": lambda _: Target(lambda raw: wire.check_wire(raw, PLACE), _onnx_seeds()),
    "intake": _intake,
}
