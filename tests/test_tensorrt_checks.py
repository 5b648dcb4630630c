"""What TensorRT cannot read, build or run is refused before it is called, in one sentence that names the node."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper
from tensorrt_models import conv_net, model, one, quantised

from edgekit import tensorrt_profiles
from edgekit.errors import EdgekitError
from edgekit.signature import Signature, Tensor
from edgekit.tensorrt_checks import check_model
from edgekit.tensorrt_profiles import Profile
from edgekit.tensorrt_tables import COMMON, VERSIONS, version
from edgekit.tensorrt_targets import Wish, check_capabilities, check_wish

X = Tensor("x", "float32", ("batch", 3, 8, 8))


def refused(made: onnx.ModelProto | bytes, by: str = "10.3") -> str:
    """The one sentence."""
    data = made if isinstance(made, bytes) else made.SerializeToString()
    with pytest.raises(EdgekitError) as told:
        check_model(data, VERSIONS[by], "the graph")
    text = str(told.value)
    assert text.startswith("the graph") and "\n" not in text
    return text


@pytest.mark.parametrize("by", VERSIONS)
@pytest.mark.parametrize("made", [conv_net(), conv_net(1), quantised()], ids=["free batch", "fixed batch", "INT8"])
def test_what_every_tensorrt_reads_passes_and_comes_back_with_its_inner_types(made, by):
    inferred = check_model(made.SerializeToString(), VERSIONS[by], "the graph")
    assert {v.name for v in inferred.graph.value_info} >= {"c", "r"} or {v.name for v in inferred.graph.value_info} >= {"x_q", "w_d"}


def test_garbage_and_nothing_are_no_model():
    assert "no ONNX model" in refused(b"not a model at all")
    assert "holds no nodes" in refused(b"")


def test_a_model_that_onnx_itself_refuses_is_refused_in_onnx_own_words():
    broken = conv_net()
    broken.graph.node[0].input[0] = "nowhere"
    assert "not a valid ONNX model: " in refused(broken) and "nowhere" in refused(broken)


def test_an_operator_is_named_with_its_node_and_who_says_so():
    text = refused(one("Det", opset=17))
    assert "'only' (Det)" in text or "not a valid" in text
    text = refused(one("BitwiseNot", T.INT32, opset=18))
    assert "the node 'only' (BitwiseNot) is an operator that TensorRT 10.3 (JetPack 6) does not read" in text and "10.1" in text


def test_a_node_without_a_name_is_found_by_what_it_makes():
    made = one("BitwiseNot", T.INT32, opset=18)
    made.graph.node[0].name = ""
    assert "the BitwiseNot node that makes 'y'" in refused(made)


def test_an_operator_of_a_later_tensorrt_is_refused_by_an_earlier_one_only():
    window = model([helper.make_node("HannWindow", ["n"], ["y"], name="window")], {"n": (T.INT64, ())}, {"y": (T.FLOAT, ("k",))})
    assert "(HannWindow)" in refused(window)
    for by in ("10", "11", "rtx"):
        check_model(window.SerializeToString(), VERSIONS[by], "the graph")


def test_an_operator_inside_a_branch_is_found_too():
    def branch(op: str) -> onnx.GraphProto:
        return helper.make_graph([helper.make_node(op, ["x"], [f"{op}_y"], name=f"in_{op}")], op, [], [helper.make_tensor_value_info(f"{op}_y", T.INT32, [2])])

    node = helper.make_node("If", ["c"], ["y"], name="if", then_branch=branch("Neg"), else_branch=branch("BitwiseNot"))
    made = model([node], {"c": (T.BOOL, ()), "x": (T.INT32, (2,))}, {"y": (T.INT32, (2,))}, opset=18)
    assert "'in_BitwiseNot' (BitwiseNot)" in refused(made)


def test_an_operator_of_another_domain_is_refused():
    assert "'only' (Gelu) is of the domain 'com.example'" in refused(one("Gelu", domain="com.example"))


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (one("MatMul", T.INT32, 2), "not a valid|type INT32"),
        (one("Sqrt", T.DOUBLE), "of type DOUBLE, which TensorRT computes in float32 without a word"),
        (one("Neg", T.INT8), "of type INT8"),
        (one("Abs", T.UINT8), "of type UINT8"),
        (one("Abs", T.UINT16), "of type UINT16"),
        (one("Add", T.UINT32, 2), "of type UINT32"),
    ],
    ids=lambda v: v if isinstance(v, str) else v.graph.node[0].op_type,
)
def test_a_type_that_tensorrt_does_not_compute_in_is_refused(made, told):
    import re

    assert re.search(told, refused(made))


def test_whole_numbers_into_a_matrix_product_are_refused():
    made = model([helper.make_node("MatMul", ["a", "b"], ["y"], name="product")], {"a": (T.INT32, (2, 2)), "b": (T.INT32, (2, 2))}, {"y": (T.INT32, (2, 2))})
    assert "the node 'product' (MatMul) reads 'a' of type INT32" in refused(made)


def test_a_byte_image_may_be_cast():
    check_model(one("Cast", T.UINT8, out=T.FLOAT, to=T.FLOAT).SerializeToString(), VERSIONS["10.3"], "the graph")


def test_an_old_opset_is_refused():
    assert "of opset 8" in refused(one("Relu", opset=8))


def test_a_tensor_in_a_file_of_its_own_is_refused_without_looking_for_the_file():
    made = conv_net()
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = T.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    assert "keeps the tensor 'w' in a file of its own" in refused(made)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (quantised(np.uint8), "'x_quantize' (QuantizeLinear) is of type UINT8"),
        (quantised(zero=3), "'x_quantize' (QuantizeLinear) has the zero point 3"),
        (quantised(bias=True), "'b_dequantize' (DequantizeLinear) reads INT32, a quantised bias"),
        (quantised(weight_axis=1), "'w_dequantize' (DequantizeLinear) has its scales along axis 1 of 'w', but the output channels of the Conv"),
        (quantised(activation_scales=3), "'x_quantize' (QuantizeLinear) has 3 scales on an activation"),
    ],
    ids=["UINT8", "zero point", "INT32 bias", "axis", "activation per channel"],
)
def test_rules_of_quantisation_name_the_node(made, told):
    assert told in refused(made)


def test_a_scale_that_is_computed_or_not_above_zero_is_refused():
    made = quantised()
    held = {t.name: t for t in made.graph.initializer}
    held["x_s"].CopyFrom(numpy_helper.from_array(np.float32(0), "x_s"))
    assert "a scale that is not above 0" in refused(made)
    made.graph.initializer.remove(held["x_s"])
    made.graph.input.append(helper.make_tensor_value_info("x_s", T.FLOAT, []))
    assert "computes its scale 'x_s'" in refused(made)


def test_int4_needs_its_opset_and_eight_bit_floats_theirs():
    def weight_only(kind: int, opset: int) -> onnx.ModelProto:
        nodes = [helper.make_node("Cast", ["w"], ["w_q"], to=kind, name="cast"), helper.make_node("DequantizeLinear", ["w_q", "s"], ["y"], name="dq")]
        return model(nodes, {"w": (T.FLOAT, (2, 4))}, {"y": (T.FLOAT, (2, 4))}, {"s": np.float32(1)}, opset)

    assert "opset" in refused(weight_only(T.INT4, 19)) or "not a valid" in refused(weight_only(T.INT4, 19))
    check_model(weight_only(T.FLOAT8E4M3FN, 19).SerializeToString(), VERSIONS["10"], "the graph")


def shapes(*of: tuple[int, ...]) -> Profile:
    return Profile(*of)


@pytest.mark.parametrize(
    ("profile", "told"),
    [
        (shapes((4, 3, 8, 8), (2, 3, 8, 8), (8, 3, 8, 8)), "4, 2, 8 at axis 0; it must be smallest <= usual <= largest"),
        (shapes((1, 3, 8), (2, 3, 8), (8, 3, 8)), "of 3 axes, but the input has 4"),
        (shapes((1, 3, 8, 8), (2, 3, 9, 8), (8, 3, 8, 8)), "is 9 at axis 2, but the model fixes 8 there"),
        (shapes((0, 3, 8, 8), (2, 3, 8, 8), (8, 3, 8, 8)), "is 0 at axis 0; a size is 1 or more"),
    ],
)
def test_a_wrong_profile_is_refused_where_tensorrt_would_only_build_nothing(profile, told):
    with pytest.raises(EdgekitError) as error:
        tensorrt_profiles.check(X, profile, "the graph")
    assert told in str(error.value) and "'x'" in str(error.value)


def test_profiles_follow_the_golden_inputs_and_the_users_wishes():
    signature = Signature((X, Tensor("s", "float32", ("length",))), ())
    goldens = [{"x": np.zeros((n, 3, 8, 8)), "s": np.zeros(k)} for n, k in ((4, 30), (2, 50))]
    sizes = tensorrt_profiles.from_goldens(goldens, signature)
    assert sizes == {"batch": [1, 4, 4], "length": [30, 30, 50]}
    made = tensorrt_profiles.make(signature, sizes, {"batch": [1, 2, 16]}, "the graph")
    assert made["x"].to_json() == [[1, 3, 8, 8], [2, 3, 8, 8], [16, 3, 8, 8]] and made["s"].to_json() == [[30], [30], [50]]
    made = tensorrt_profiles.make(signature, sizes, {"s": [[1], [10], [99]]}, "the graph")
    assert made["s"].to_json() == [[1], [10], [99]]
    with pytest.raises(EdgekitError, match="the free size 'length' of the input 's' has no profile"):
        tensorrt_profiles.make(signature, {"batch": [1, 1, 1]}, {}, "the graph")
    for wish, told in (({"bacth": [1, 2, 3]}, "no input or free size 'bacth'"), ({"batch": [1, 2]}, "three sizes"), ({"batch": [1, 2.5, 3]}, "three sizes"),
                       ({"x": [1, 2, 3]}, "needs three shapes")):  # fmt: skip
        with pytest.raises(EdgekitError, match=told):
            tensorrt_profiles.check_names(wish, [signature])


def test_compute_capabilities_are_those_of_rtx_and_others_are_told_where_to_go():
    assert check_capabilities(["8.6", "SM89", 120, "8.6"], {"FLOAT"}) == ["8.6", "8.9", "12.0"]
    for one_of in ("8.7", "9.0", "10.0", "11.0"):
        with pytest.raises(EdgekitError, match=f"compute capability {one_of} .*--format tensorrt-kit"):
            check_capabilities([one_of], {"FLOAT"})
    with pytest.raises(EdgekitError, match="no compute capability '5.0'; there are: "):
        check_capabilities(["5.0"], {"FLOAT"})
    with pytest.raises(EdgekitError, match="FLOAT8E4M3FN, which compute capability 8.6 cannot run"):
        check_capabilities(["8.6", "8.9"], {"FLOAT8E4M3FN"})


@pytest.mark.parametrize(
    ("wish", "types", "told"),
    [
        (Wish("orin"), {"FLOAT8E4M3FN"}, "Jetson Orin .* has no FP8 and no FP4"),
        (Wish("orin"), {"FLOAT4E2M1"}, "has no FP8 and no FP4"),
        (Wish("thor", dla=True), {"FLOAT16"}, "Jetson Thor has none"),
        (Wish("orin", "10.8", dla=True), {"FLOAT16"}, "10.8 to 11.3 have none"),
        (Wish("orin", "10.15", dla=True), {"FLOAT16"}, "10.8 to 11.3 have none"),
        (Wish("orin", "10", dla=True), {"FLOAT16"}, "say which one"),
        (Wish("orin", dla=True), {"FLOAT"}, "runs FP16 and INT8 only"),
        (Wish("orin", "11.2"), {"FLOAT"}, "do not run on JetPack"),
        (Wish("thor", "10.3"), {"FLOAT"}, "needs JetPack 7"),
        (Wish("orin", "11.4.1", calibrator=True), {"FLOAT"}, "TensorRT 11 has no INT8 calibrators"),
        (Wish("orin", calibrator=True), {"FLOAT"}, "strongly typed"),
        (Wish("orin", "9.1"), {"FLOAT"}, "edgekit writes for 10 and 11"),
        (Wish("nano"), {"FLOAT"}, "no TensorRT device 'nano'; there are: orin, thor"),
    ],
)
def test_wishes_that_no_device_grants_are_refused(wish, types, told):
    with pytest.raises(EdgekitError, match=told):
        check_wish(wish, types)


def test_wishes_that_can_be_granted_are():
    assert check_wish(Wish("orin"), {"FLOAT"})[1] == "10.3"
    assert check_wish(Wish("orin", "10.7", dla=True), {"FLOAT16"})[1] == "10.7"
    assert check_wish(Wish("orin", "11.4.1", dla=True), {"INT8"})[0].name == "orin"
    assert check_wish(Wish("thor"), {"FLOAT8E4M3FN"})[1] == "10"


def test_versions_are_found_by_number():
    assert version("10.3").operators == COMMON < version("10.9").operators <= version("11.4.1").operators
    with pytest.raises(EdgekitError, match="no TensorRT '9'"):
        version("9")
