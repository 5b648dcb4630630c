"""FP16 in the graph: computed in half where it says so, float32 outside, and near the float answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import numpy_helper
from tensorrt_models import conv_net, model, save

from edgekit import flow, registry, verify
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
from edgekit.parts import Runtime


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("half")
    return flow.export(str(save(conv_net(), folder / "net.onnx")), "onnx:f16", folder / "made")


def test_heavy_operators_are_half_and_the_faces_are_float(made: Bundle):
    inferred = onnx.shape_inference.infer_shapes(onnx.load(made.graph()), strict_mode=True)
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)}
    outputs = {n.op_type: kinds[n.output[0]] for n in inferred.graph.node if n.op_type != "Cast"}
    assert outputs["Conv"] == outputs["MatMul"] == outputs["Relu"] == T.FLOAT16
    assert outputs["Softmax"] == outputs["GlobalAveragePool"] == T.FLOAT
    assert kinds["x"] == kinds["y"] == T.FLOAT
    assert {t.data_type for t in inferred.graph.initializer} == {T.FLOAT16}


def test_it_is_near_the_float_answers_and_not_equal_to_them(made: Bundle):
    found = verify.verify(made, registry.find(Runtime, "onnxruntime"))
    assert found.passed and found.output_max_abs is not None
    assert 0 < found.output_max_abs <= made.manifest.allowed.output_max_abs["y"] == pytest.approx(1e-2)


def test_the_reference_evaluator_agrees(made: Bundle):
    from onnx.reference import ReferenceEvaluator

    golden = made.golden()
    got = ReferenceEvaluator(onnx.load(made.graph())).run(["y"], dict(golden.inputs))[0]
    assert np.abs(got - golden.outputs["y"]).max() <= 1e-2


def test_a_weight_too_large_for_half_stays_float(tmp_path: Path):
    net = conv_net()
    held = next(t for t in net.graph.initializer if t.name == "k")
    held.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(held) * np.float32(1e5), "k"))
    made = flow.export(str(save(net, tmp_path / "n.onnx")), "onnx:f16", tmp_path / "m")
    assert {t.name for t in onnx.load(made.graph()).graph.initializer if t.data_type == T.FLOAT} == {"k"}
    assert verify.verify(made, registry.find(Runtime, "onnxruntime")).passed


def test_a_model_that_gains_nothing_is_refused(tmp_path: Path):
    made = model([onnx.helper.make_node("Exp", ["x"], ["y"])], {"x": (T.FLOAT, ("batch", 4))}, {"y": (T.FLOAT, ("batch", 4))})
    with pytest.raises(EdgekitError, match="no operator of the model gains from FP16"):
        flow.export(str(save(made, tmp_path / "m.onnx")), "onnx:f16", tmp_path / "k")
