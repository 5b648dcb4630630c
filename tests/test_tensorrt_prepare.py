"""Graphs made fit for TensorRT compute what they computed before."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto as T
from onnx import checker, helper, numpy_helper
from tensorrt_models import conv_net, model, quantised

from edgekit.tensorrt_prepare import prepared


def run(data: bytes, **inputs: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, inputs)


def scaled(scale_shape: tuple[int, ...], axis: int) -> onnx.ModelProto:
    """x times a quantised constant of [3, 4]; as onnxruntime's quantiser writes it, the DQ node comes last."""
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("Mul", ["x", "c_d"], ["y"], name="scale"), helper.make_node("DequantizeLinear", ["c", "s"], ["c_d"], name="dq", axis=axis)]
    values = rng.integers(-127, 127, (3, 4)).astype(np.int8)
    return model(nodes, {"x": (T.FLOAT, (2, 3, 4))}, {"y": (T.FLOAT, (2, 3, 4))}, {"c": values, "s": rng.random(scale_shape).astype(np.float32) + 0.1})


@pytest.mark.parametrize(("shape", "axis"), [((), 1), ((3,), 0), ((4,), 1), ((4,), -1)])
def test_a_quantised_constant_that_is_no_weight_becomes_the_numbers_that_it_stands_for(shape, axis):
    before = scaled(shape, axis)
    after = prepared(before.SerializeToString())
    checker.check_model(after, full_check=True)
    assert [n.op_type for n in onnx.load_from_string(after).graph.node] == ["Mul"]
    x = np.random.default_rng(1).standard_normal((2, 3, 4)).astype(np.float32)
    assert np.array_equal(run(after, x=x)[0], run(before.SerializeToString(), x=x)[0])


def test_weights_and_broken_rules_stay_as_they_are():
    for made in (quantised(), conv_net(), quantised(bias=True)):
        assert prepared(made.SerializeToString()) == made.SerializeToString()
    odd = scaled((), 1)
    odd.graph.initializer.append(numpy_helper.from_array(np.int8(3), "z"))
    odd.graph.node[1].input.append("z")
    assert [n.op_type for n in onnx.load_from_string(prepared(odd.SerializeToString())).graph.node] == ["DequantizeLinear", "Mul"]


def test_nodes_in_any_order_are_put_right_and_the_first_right_order_is_kept():
    made = conv_net()
    right = list(made.graph.node)
    shuffled = onnx.ModelProto.FromString(made.SerializeToString())
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in right]
    x = np.random.default_rng(2).standard_normal((2, 3, 8, 8)).astype(np.float32)
    for seed in range(20):
        del shuffled.graph.node[:]
        shuffled.graph.node.extend(nodes[i] for i in np.random.default_rng(seed).permutation(len(nodes)))
        after = prepared(shuffled.SerializeToString())
        checker.check_model(after, full_check=True)
        assert np.array_equal(run(after, x=x)[0], run(made.SerializeToString(), x=x)[0])
    assert prepared(made.SerializeToString()) == made.SerializeToString()


def test_what_a_branch_reads_from_outside_comes_before_it():
    inner = helper.make_graph([helper.make_node("Neg", ["late"], ["b"])], "then", [], [helper.make_tensor_value_info("b", T.FLOAT, [2])])
    other = helper.make_graph([helper.make_node("Abs", ["late"], ["c"])], "else", [], [helper.make_tensor_value_info("c", T.FLOAT, [2])])
    nodes = [helper.make_node("If", ["p"], ["y"], then_branch=inner, else_branch=other), helper.make_node("Exp", ["x"], ["late"])]
    made = model(nodes, {"p": (T.BOOL, ()), "x": (T.FLOAT, (2,))}, {"y": (T.FLOAT, (2,))})
    assert [n.op_type for n in onnx.load_from_string(prepared(made.SerializeToString())).graph.node] == ["Exp", "If"]


def test_circles_and_garbage_come_back_as_they_are():
    circle = model([helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Neg", ["a"], ["b"])], {"x": (T.FLOAT, (2,))}, {"b": (T.FLOAT, (2,))})
    for data in (circle.SerializeToString(), b"", b"no model"):
        assert prepared(data) == data
