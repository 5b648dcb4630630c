"""Profiles by layer: every operation of the model is found in some layer, times are those of the engine, and the roof holds or is told."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from onnx import TensorProto, helper
from toy_bundles import bundle, graph, tensor

from edgekit import flow, layers, registry
from edgekit.bundle import Bundle
from edgekit.counting import costs_of, one_sample
from edgekit.errors import EdgekitError
from edgekit.layer_profile import Layer, LayerProfile, Roof
from edgekit.parts import Runtime
from edgekit.program import Phase, Program, State, value
from edgekit.roofline.probe import Probe
from edgekit.signature import Signature

ROOF = Roof(1, {"f32": 100.0, "int8": 400.0}, 40.0, {})


def one_graph(folder, nodes, constants, x: tuple[int, ...], y: tuple[int, ...]) -> Bundle:
    data, signature = graph((tensor("x", *x),), (tensor("y", *y),), nodes, constants)
    return bundle(folder, {"main": (data, signature)}, signature, Program((Phase(inputs={"x": value("x")}, outputs={"y": "y"}),)))


def conv_net(folder, channels: tuple[int, int] = (24, 10)) -> Bundle:
    """Channels that fill no block of 8 or 16, so that engines add some; no node has a name; a branch is added again."""
    rng = np.random.default_rng(0)
    a, b = channels
    constants = {
        "w1": rng.normal(size=(a, 3, 3, 3)), "b1": rng.normal(size=a), "w2": rng.normal(size=(a, 1, 3, 3)), "w3": rng.normal(size=(b, a, 1, 1)),
        "w4": rng.normal(size=(b, a, 1, 1)),
    }  # fmt: skip
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], **same), helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], group=a, **same), helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Conv", ["r2", "w3"], ["c3"]), helper.make_node("Conv", ["r1", "w4"], ["c4"]),
        helper.make_node("Add", ["c3", "c4"], ["s"]), helper.make_node("Relu", ["s"], ["y"]),
    ]  # fmt: skip
    return one_graph(folder, nodes, {n: v.astype(np.float32) for n, v in constants.items()}, (1, 3, 30, 34), (1, b, 30, 34))


def profile(made: Bundle, runtime: str = "onnxruntime", runs: int = 20) -> LayerProfile:
    return registry.find(Runtime, runtime).layers(made, one_sample(made), 1, runs)


def macs_of(made: Bundle) -> int:
    return costs_of(made).macs


def sane(found: LayerProfile, runs: int = 20) -> None:
    assert found.runs == runs
    assert found.layers
    assert sum(x.share for x in found.layers) == pytest.approx(1)
    assert all(x.time_us >= 0 for x in found.layers)
    assert found.slowed is not None
    assert found.slowed > 0


def test_onnxruntimes_layers_hold_exactly_the_operations_of_the_model(tmp_path):
    """Convolutions run on channels in blocks that zeros fill up; what is fused into them counts as well."""
    made = conv_net(tmp_path / "net")
    found = profile(made)
    sane(found)
    counted = costs_of(made)
    assert sum(x.operations or 0 for x in found.layers) == counted.operations
    convolutions = [x for x in found.layers if "Conv" in x.operator]
    assert len(convolutions) == 4
    assert {x.precision for x in convolutions} == {"f32"}
    assert all(x.bytes_moved for x in convolutions)
    assert found.runtime.startswith("onnxruntime ")


def test_openvinos_layers_hold_the_products_of_the_model_and_name_their_kernels(tmp_path):
    pytest.importorskip("openvino")
    made = conv_net(tmp_path / "net", (64, 40))
    found = profile(made, "openvino", 60)
    sane(found, 60)
    products = [x for x in found.layers if x.operator == "Convolution"]
    assert 2 * macs_of(made) <= sum(x.operations or 0 for x in products) <= 1.05 * costs_of(made).operations
    assert all(x.kernel and x.precision == "f32" for x in products)
    assert not any("Const" in x.operator for x in found.layers)


def test_openvinos_products_are_found_when_their_names_are_lost(tmp_path):
    """MatMul and the sum and Relu after it become one layer with the names of the sum and the Relu only."""
    pytest.importorskip("openvino")
    rng = np.random.default_rng(0)
    constants = {"w": rng.normal(size=(256, 512)).astype(np.float32), "b": rng.normal(size=512).astype(np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["s"]), helper.make_node("Relu", ["s"], ["y"])]
    made = one_graph(tmp_path / "net", nodes, constants, (64, 256), (64, 512))
    found = profile(made, "openvino", 60)
    assert 2 * macs_of(made) <= sum(x.operations or 0 for x in found.layers) <= costs_of(made).operations


def test_weights_that_openvino_converts_once_are_no_layer(tmp_path):
    """In bf16 the weights of a product are converted at the first run, and its counters show that as executed."""
    openvino = pytest.importorskip("openvino")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor does not multiply in bf16")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    made = one_graph(tmp_path / "net", nodes, {"w": np.ones((512, 512), np.float32)}, (64, 512), (64, 512))
    halved = dataclasses.replace(made, manifest=dataclasses.replace(made.manifest, details={"inference_precision": "bf16"}))
    found = profile(halved, "openvino", 60)
    (product,) = [x for x in found.layers if x.operations]
    assert product.precision == "bf16"
    assert product.operations == 2 * macs_of(made)
    assert all((x.bytes_moved or 0) < 512 * 512 * 4 for x in found.layers if x is not product)


def test_a_layer_in_a_loop_counts_every_step(tmp_path):
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("MatMul", ["u", "w"], ["m"]), helper.make_node("Mul", ["m", "x"], ["n"])]
    data, signature = graph((tensor("x", 1, 128), tensor("u", 1, 128)), (tensor("n", 1, 128),), nodes, {"w": rng.normal(size=(128, 128)).astype(np.float32)})
    phase = Phase("main", "steps", 6, {"x": value("x"), "u": value("s")}, {}, {"s": State("float32", (1, 128))}, {"n": "s"})
    made = bundle(tmp_path / "loop", {"main": (data, signature)}, Signature((tensor("x", 1, 128),), (tensor("s", 1, 128),)), Program((phase,)))
    found = profile(made)
    assert sum(x.operations or 0 for x in found.layers) == costs_of(made).operations == 6 * (2 * 128 * 128 + 128)


def test_two_graphs_of_a_program_keep_their_names_apart(tmp_path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    data, signature = graph((tensor("x", 4, 64),), (tensor("y", 4, 64),), nodes, {"w": np.ones((64, 64), np.float32)})
    phases = (Phase("a", inputs={"x": value("x")}, outputs={"y": "v"}), Phase("b", inputs={"x": value("v")}, outputs={"y": "y"}))
    made = bundle(tmp_path / "two", {"a": (data, signature), "b": (data, signature)}, signature, Program(phases))
    found = profile(made)
    assert [x.name.split("/")[0] for x in found.layers] == ["a", "b"]
    assert sum(x.operations or 0 for x in found.layers) == costs_of(made).operations


def quantised(folder) -> Bundle:
    """One convolution in bytes; weights of 7 bits, which processors without VNNI multiply as bytes, too."""
    rng = np.random.default_rng(0)
    constants = {
        "s": np.float32(0.1), "z": np.uint8(128), "w": rng.integers(-64, 65, (64, 32, 3, 3), np.int8), "ws": np.full(64, 0.01, np.float32),
        "wz": np.zeros(64, np.int8),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]), helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=0), helper.make_node("Conv", ["xf", "wf"], ["c"], kernel_shape=[3, 3]),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["cq"]), helper.make_node("DequantizeLinear", ["cq", "s", "z"], ["y"]),
    ]  # fmt: skip
    return one_graph(folder, nodes, constants, (1, 32, 24, 24), (1, 64, 22, 22))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_integer_kernel_is_shown_as_int8(runtime, tmp_path):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    made = quantised(tmp_path / "net")
    found = profile(made, runtime, 60)
    (product,) = [x for x in found.layers if "Conv" in x.operator and x.operations]
    assert product.precision == "int8"
    assert (product.operations or 0) >= 2 * macs_of(made) > 0
    assert (product.bytes_moved or 0) < 4 * (32 * 24 * 24 + 64 * 22 * 22)  # eight bits, not thirty-two


def event(name: str, ts: int, dur: int, kind: str = "Relu") -> dict:
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": {"op_name": kind}}


def test_a_loops_time_is_less_that_of_its_body():
    """Beside it, a node that begins where the loop ends; a body of two rounds; a branch within the loop."""
    from edgekit.runtimes import _ort_layers

    call = [event("in", 2, 3), event("cond", 6, 10, "If"), event("deep", 8, 4), event("in", 20, 3), event("loop", 0, 30, "Loop"), event("after", 30, 5)]
    own: dict[str, float] = {}
    for e, us in _ort_layers._own_times(call):
        own[e["name"].removesuffix("_kernel_time")] = own.get(e["name"].removesuffix("_kernel_time"), 0.0) + us
    assert own == {"in": 6.0, "cond": 6.0, "deep": 4.0, "loop": 14.0, "after": 5.0}
    assert sum(own.values()) == 35


def test_a_real_loop_is_profiled_inside(tmp_path):
    """A Scan of 5 rows: the product of its body is a layer with five calls."""
    body = helper.make_graph(
        [helper.make_node("MatMul", ["u", "w"], ["m"]), helper.make_node("Add", ["m", "row"], ["u2"]), helper.make_node("Identity", ["u2"], ["o"])], "body",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 96]) for n in ("u", "row")],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 96]) for n in ("u2", "o")],
    )  # fmt: skip
    nodes = [helper.make_node("Scan", ["u0", "x"], ["last", "y"], body=body, num_scan_inputs=1)]
    constants = {"w": np.ones((96, 96), np.float32) / 96, "u0": np.zeros((1, 96), np.float32)}
    made = one_graph(tmp_path / "scan", nodes, constants, (5, 1, 96), (5, 1, 96))
    found = profile(made)
    products = sum(x.operations or 0 for x in found.layers if x.operator in ("MatMul", "Gemm", "FusedMatMul"))
    assert 2 * macs_of(made) == 5 * 2 * 96 * 96
    assert products in (5 * 2 * 96 * 96, 5 * 2 * 96 * 96 + 5 * 96)


def of(**more) -> Layer:
    plain = {"name": "conv", "operator": "Conv", "kernel": "k", "precision": "f32", "time_us": 10.0, "share": 1.0, "operations": 10**6, "bytes_moved": 10**5}
    return Layer(**{**plain, **more})


def test_a_layer_above_the_roof_is_named():
    found = layers.under(LayerProfile("r", 1, 9, (of(operations=2 * 10**6), of(name="slow"), of(name="eight", precision="int8", operations=3 * 10**6)), None), ROOF)
    (note,) = found.notes
    assert note.startswith("conv reaches 200 GOP/s, more than the 100 of the roof in f32")
    assert found.roof == ROOF


def test_data_that_come_faster_than_memory_gives_lie_in_caches_and_it_is_said():
    found = layers.under(LayerProfile("r", 1, 9, (of(operations=10, bytes_moved=8 * 10**5), of(name="slow")), None), ROOF)
    assert found.notes == ("1 layers move up to 80 GB/s, memory gives 40: their data lie in caches",)


def test_a_precision_without_a_roof_is_said():
    found = layers.under(LayerProfile("r", 1, 9, (of(precision="bf16"),), None), ROOF)
    assert found.notes == ("no roof was measured for bf16",)


def test_shares_are_of_the_sum_and_nothing_is_divided_by_zero():
    assert [x.share for x in layers.with_shares([of(time_us=1.0), of(time_us=3.0)])] == [0.25, 0.75]
    assert [x.share for x in layers.with_shares([of(time_us=0.0)])] == [0.0]
    assert of(time_us=0.0).gops is None


@pytest.fixture
def known_roof(monkeypatch):
    told = Probe(ROOF, 2.0, 0.3, "p", (), 2, None, {}, "now")
    monkeypatch.setattr(layers, "probe", lambda threads: told)


def test_a_fresh_process_profiles_and_the_roof_is_put_over_it(tmp_path, known_roof):
    made = conv_net(tmp_path / "net")
    found = layers.profile_layers(made, "onnxruntime", 1)
    sane(found, found.runs)
    assert layers.LEAST <= found.runs <= layers.MOST
    assert found.roof == ROOF
    assert sum(x.operations or 0 for x in found.layers) == costs_of(made).operations


def test_a_trained_network_is_profiled_on_both_engines(small_run, tmp_path, known_roof):
    pytest.importorskip("openvino")
    made = flow.export(small_run / "train" / "t4", "onnx", tmp_path / "t4")
    on_ort = layers.profile_layers(made, "onnxruntime")
    assert 2 * macs_of(made) <= sum(x.operations or 0 for x in on_ort.layers) <= costs_of(made).operations
    on_openvino = layers.profile_layers(made, "openvino")
    assert on_openvino.threads == 1
    assert any("cut off" in n for n in on_openvino.notes)


@pytest.mark.parametrize(("runtime", "said"), [("reference", "gives no profile by layer; onnxruntime and openvino do"), ("nothing", "no runtime 'nothing'")])
def test_an_engine_without_layers_is_refused_in_a_sentence(runtime, said, tmp_path, known_roof):
    made = conv_net(tmp_path / "net")
    with pytest.raises(EdgekitError, match=said):
        layers.profile_layers(made, runtime)
