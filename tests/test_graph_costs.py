"""Operations and bytes of graphs equal those of independent counters, of closed forms, and of loops written by hand."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from toy_bundles import bundle, decay, tensor

from edgekit import flow
from edgekit.counting import costs_of, one_sample
from edgekit.counting.graph import graph_costs
from edgekit.counting.node import Node, Port
from edgekit.counting.nodes import count, known
from edgekit.errors import EdgekitError
from edgekit.operations import count_ann
from edgekit.program import Affine, Feed, Join, Phase, Program, State, Stream, Term, value
from edgekit.program import noise as drawn
from edgekit.signature import Signature

F32 = "float32"


def model_of(nodes: list, inputs: dict[str, tuple[int, ...]], outputs: tuple[str, ...], constants: dict[str, np.ndarray] | None = None, opset: int = 20):
    made = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()],
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def zeros(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    return {n: np.zeros(s, np.float32) for n, s in shapes.items()}


def exported(module, example, path: Path) -> Path:
    import logging

    import torch

    logging.disable(logging.CRITICAL)  # the exporter tells of libraries that it can do without
    try:
        torch.onnx.export(module.eval(), example, path, dynamo=True, external_data=False, verbose=False)
    finally:
        logging.disable(logging.NOTSET)
    return path


def torch_modules():
    import torch
    from torch import nn

    class Attention(nn.Module):
        def forward(self, q, k, v):
            return nn.functional.scaled_dot_product_attention(q, k, v)

    class Products(nn.Module):
        def forward(self, a, b):
            return torch.einsum("ij,bjk->bik", a, b) @ b.transpose(1, 2) + torch.addmm(a, a, a.T @ a)

    conv = nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 24, 3, stride=2, padding=2, dilation=2, groups=24), nn.BatchNorm2d(24),
        nn.Hardswish(), nn.Conv2d(24, 10, 1), nn.MaxPool2d(2), nn.ConvTranspose2d(10, 6, 4, stride=2, padding=1), nn.Sigmoid(),
    )  # fmt: skip
    heads = [torch.randn(2, 4, n, 8) for n in (6, 9, 9)]
    return {
        "convolutions": (conv, (torch.randn(2, 3, 17, 19),)),
        "one dimension": (nn.Sequential(nn.Conv1d(2, 8, 5, stride=3), nn.ELU(), nn.ConvTranspose1d(8, 2, 5, stride=3)), (torch.randn(1, 2, 64),)),
        "transformer": (nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), (torch.randn(2, 7, 32),)),
        "attention": (Attention(), tuple(heads)),
        "products": (Products(), (torch.randn(4, 5), torch.randn(2, 5, 7))),
    }


@pytest.mark.filterwarnings("ignore")  # of torch's own exporter
@pytest.mark.parametrize("name", ["convolutions", "one dimension", "transformer", "attention", "products"])
def test_products_are_those_that_torchs_own_counter_sees(name, tmp_path):
    import onnx
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    module, example = torch_modules()[name]
    module.eval()
    with FlopCounterMode(display=False) as seen, sdpa_kernel(SDPBackend.MATH):  # the fused kernels of a CPU are not counted by torch
        module(*example)
    found = onnx.load(exported(module, example, tmp_path / "m.onnx"))
    inputs = {i.name: e.numpy() for i, e in zip(found.graph.input, example, strict=True)}
    costs = graph_costs(found, inputs)
    assert 2 * sum(n.macs for n in costs.nodes) == seen.get_total_flops() > 0
    assert not costs.notes
    pytest.importorskip("openvino")
    from edgekit.counting.openvino_graph import graph_costs as count_openvino

    other = count_openvino(tmp_path / "m.onnx", inputs)
    assert sum(n.macs for n in other.nodes) == sum(n.macs for n in costs.nodes)
    assert sum(n.inside for n in other.nodes) == sum(n.inside for n in costs.nodes)
    assert not other.notes
    if name == "convolutions":  # others have constants of shapes beside their weights
        assert other.weight_bytes == costs.weight_bytes
        assert [n.weight_bytes for n in other.nodes if n.operator == "GroupConvolution"] == [24 * 3 * 3 * 4]


def resnet8():
    """The image classifier of MLPerf Tiny: stages of 16, 32, 64 channels on 32 x 32 pixels."""
    nodes, constants = [], {}

    def conv(x: str, name: str, cin: int, cout: int, k: int, stride: int) -> str:
        constants[f"{name}.w"] = np.zeros((cout, cin, k, k), np.float32)
        constants[f"{name}.b"] = np.zeros(cout, np.float32)
        pads = [k // 2] * 4
        nodes.append(helper.make_node("Conv", [x, f"{name}.w", f"{name}.b"], [name], kernel_shape=[k, k], strides=[stride] * 2, pads=pads))
        return name

    def relu(x: str) -> str:
        nodes.append(helper.make_node("Relu", [x], [f"{x}.r"]))
        return f"{x}.r"

    x = relu(conv("x", "first", 3, 16, 3, 1))
    for i, (cin, cout) in enumerate([(16, 16), (16, 32), (32, 64)]):
        inner = conv(relu(conv(x, f"{i}a", cin, cout, 3, 1 + (i > 0))), f"{i}b", cout, cout, 3, 1)
        short = conv(x, f"{i}s", cin, cout, 1, 2) if i else x
        nodes.append(helper.make_node("Add", [inner, short], [f"{i}sum"]))
        x = relu(f"{i}sum")
    constants |= {"fc": np.zeros((64, 10), np.float32), "fb": np.zeros(10, np.float32)}
    nodes += [
        helper.make_node("GlobalAveragePool", [x], ["p"]), helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "fc", "fb"], ["y"]),
    ]  # fmt: skip
    return model_of(nodes, {"x": (1, 3, 32, 32)}, ("y",), constants)


def test_resnet8_has_the_25_million_operations_that_are_published():
    costs = graph_costs(resnet8(), zeros({"x": (1, 3, 32, 32)}))
    products = 2 * sum(n.macs for n in costs.nodes)
    by_hand = 1024 * 16 * 27 + 2 * 1024 * 16 * 144 + 256 * 32 * (144 + 288 + 16) + 64 * 64 * (288 + 576 + 32) + 640
    assert products == 2 * by_hand
    assert round(products / 1e6, 1) == 25.0
    assert costs.weight_bytes == 4 * sum(math.prod(t.dims) for t in resnet8().graph.initializer)


@pytest.mark.parametrize(("pads", "auto"), [((0, 0, 0, 0), ""), ((1, 2, 0, 1), ""), ((0, 0, 0, 0), "SAME_UPPER"), ((0, 0, 0, 0), "SAME_LOWER")])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
@pytest.mark.parametrize("groups", [1, 2])
def test_windows_on_padding_count_and_what_is_inside_is_that_of_the_loops(pads, auto, stride, dilation, groups):
    attributes = {"pads": list(pads)} if not auto else {"auto_pad": auto}
    weight = np.zeros((4, 6 // groups, 3, 2), np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=stride, dilations=dilation, group=groups, **attributes)
    (found,) = graph_costs(model_of([node], {"x": (1, 6, 7, 9)}, ("y",), {"w": weight}), zeros({"x": (1, 6, 7, 9)})).nodes
    rows, columns = out_of(7, pads[0] + pads[2], 3, stride[0], dilation[0], auto), out_of(9, pads[1] + pads[3], 2, stride[1], dilation[1], auto)
    assert found.macs == rows * columns * weight.size
    top, left = begin(7, rows, 3, stride[0], dilation[0], pads[0], auto), begin(9, columns, 2, stride[1], dilation[1], pads[1], auto)
    inside = 0
    for y, x, ky, kx in itertools.product(range(rows), range(columns), range(3), range(2)):
        r, c = y * stride[0] - top + ky * dilation[0], x * stride[1] - left + kx * dilation[1]
        inside += (0 <= r < 7 and 0 <= c < 9) * 4 * (6 // groups)
    assert found.inside == inside


def out_of(length: int, pad: int, k: int, stride: int, dilation: int, auto: str) -> int:
    return -(-length // stride) if auto else (length + pad - (k - 1) * dilation - 1) // stride + 1


def begin(length: int, out: int, k: int, stride: int, dilation: int, pad: int, auto: str) -> int:
    both = max((out - 1) * stride + (k - 1) * dilation + 1 - length, 0)
    return {"": pad, "SAME_UPPER": both // 2, "SAME_LOWER": both - both // 2}[auto]


def test_a_long_signal_under_a_long_window_is_counted_without_writing_out_every_place():
    node = Node("c", "Conv", (Port((1, 1, 1 << 30), F32), Port((1, 1, 1 << 14), F32, True)), (Port((1, 1, (1 << 30) - (1 << 14) + 1), F32),))
    assert count(node).inside == count(node).macs == ((1 << 30) - (1 << 14) + 1) << 14


def test_the_digits_net_counts_layer_by_layer_as_the_counter_of_spiking_networks_does(small_run, tmp_path):
    """count_ann follows weights through a description of the network that has nothing to do with ONNX."""
    own = count_ann(flow.load_trained(small_run / "train" / "t1").spiking_net(), 1)
    costs = costs_of(flow.export(small_run / "train" / "t1", "onnx", tmp_path / "t1"))
    assert [n.inside for _, n in costs.nodes() if n.macs] == [layer.dense_macs for layer in own.layers]


def test_a_program_counts_its_graph_as_often_as_it_runs(small_run, tmp_path):
    once = costs_of(flow.export(small_run / "train" / "t1", "onnx", tmp_path / "t1"))
    four = costs_of(flow.export(small_run / "train" / "t4", "onnx", tmp_path / "t4"))
    assert (once.calls, four.calls) == (1, 4)
    assert four.macs == 4 * once.macs


def test_an_unrolled_loop_costs_what_the_loop_costs(small_run, tmp_path):
    loop = flow.export(small_run / "train" / "t4", "onnx", tmp_path / "t4")
    fused = flow.export(loop.folder, "onnx-fused", tmp_path / "fused")
    assert costs_of(fused).macs == costs_of(loop).macs > 0


def steps_bundle(folder: Path, steps: int):
    signature = Signature((tensor("x", 2, 3),), (tensor("u", 2, 3),))
    state = {"u": State(F32, (2, 3))}
    phase = Phase("main", "steps", steps, {"x": value("x"), "u": value("u")}, {}, state, {"u_next": "u"})
    return bundle(folder, {"main": decay(2, 3)}, signature, Program((phase,)))


def test_steps_and_the_operations_between_them_are_in_closed_form(tmp_path):
    costs = costs_of(steps_bundle(tmp_path / "a", 7))
    assert costs.operations == 7 * 2 * 6  # a product and a sum an element
    assert costs.bytes_moved == 7 * 4 * ((6 + 1 + 6) + (6 + 6 + 6))  # read u and the constant, write m; read m and x, write u
    assert (costs.launches, costs.edge_bytes, costs.weight_bytes, costs.unit) == (14, 7 * 4 * 18, 4, "inference")
    out = Signature((tensor("x", 2, 3),), (tensor("y", 2, 3),))
    phase = Phase("main", inputs={"x": value("x"), "u": drawn(0)}, outputs={"u_next": "v"}, epilogue=(Affine((Term(value("v"), 2.0), Term(value("x"), 0.5)), "y"),))
    made = costs_of(bundle(tmp_path / "b", {"main": decay(2, 3)}, out, Program((phase,))))
    assert made.operations == 12 + 3 * 6  # two products and a sum an element, between the graphs
    assert made.notes == ("drawing noise is not counted",)


def test_a_stream_is_counted_by_the_chunk(tmp_path):
    signature = Signature((tensor("x", 1, "time"),), (tensor("u", 1, "time"),))
    stream = Stream({"x": Feed(1, 8, 8)}, (Phase("main", inputs={"x": value("x"), "u": value("u")}, carry={"u_next": "u"}, outputs={}),), {"u": Join("concat", 1)},
                    {"u": State(F32, (1, 8))})  # fmt: skip
    costs = costs_of(bundle(tmp_path / "s", {"main": decay(1, 8)}, signature, Program((stream,))))
    assert (costs.unit, costs.operations) == ("chunk", 16)


def test_a_free_batch_is_counted_for_one_sample(tmp_path):
    signature = Signature((tensor("x", "batch", 3), tensor("u", "batch", 3)), (tensor("u_next", "batch", 3),))
    program = Program((Phase(inputs={"x": value("x"), "u": value("u")}, outputs={"u_next": "u_next"}),))
    made = bundle(tmp_path / "b", {"main": decay("batch", 3)}, signature, program)
    assert {v.shape for v in one_sample(made).values()} == {(1, 3)}
    assert costs_of(made).operations == 6
    assert costs_of(made, {n: np.zeros((5, 3), np.float32) for n in ("x", "u")}).operations == 30


def test_a_quantised_graph_is_counted_in_int8_and_its_bytes_in_eight_bits():
    rng = np.random.default_rng(0)
    constants = {
        "s": np.float32(0.1), "z": np.uint8(3), "w": rng.integers(-9, 9, (8, 4), np.int8), "ws": np.ones(8, np.float32),
        "wz": np.zeros(8, np.int8), "b": np.zeros(8, np.int32),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]), helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=0), helper.make_node("DequantizeLinear", ["b", "ws"], ["bf"], axis=0),
        helper.make_node("Gemm", ["xf", "wf", "bf"], ["g"], transB=1), helper.make_node("QuantizeLinear", ["g", "s", "z"], ["gq"]),
        helper.make_node("DequantizeLinear", ["gq", "s", "z"], ["y"]),
    ]  # fmt: skip
    costs = graph_costs(model_of(nodes, {"x": (5, 4)}, ("y",), constants), zeros({"x": (5, 4)}))
    product = next(n for n in costs.nodes if n.macs)
    assert (product.precision, product.macs, product.operations) == ("int8", 5 * 4 * 8, 2 * 5 * 4 * 8)
    assert (product.input_bytes, product.weight_bytes, product.output_bytes) == (20, 32 + 4 * 8, 40)
    assert [n.operations for n in costs.nodes if not n.macs] == [20, 40]  # rounding at both ends; what is unpacked costs nothing
    only_weights = [*nodes[2:4], helper.make_node("Gemm", ["x", "wf", "bf"], ["y"], transB=1)]
    (found,) = graph_costs(model_of(only_weights, {"x": (5, 4)}, ("y",), constants), zeros({"x": (5, 4)})).nodes
    assert (found.precision, found.weight_bytes) == ("f32", 32 + 32)  # multiplied as floats, kept as 8 bits


def test_what_depends_on_constants_alone_is_computed_once_and_counts_nothing():
    constants = {"w": np.zeros((6, 4), np.float32), "half": np.float32(0.5)}
    nodes = [
        helper.make_node("Mul", ["w", "half"], ["scaled"]), helper.make_node("Transpose", ["scaled"], ["wt"]),
        helper.make_node("MatMul", ["x", "wt"], ["y"]),
    ]  # fmt: skip
    costs = graph_costs(model_of(nodes, {"x": (3, 4)}, ("y",), constants), zeros({"x": (3, 4)}))
    assert [n.operator for n in costs.nodes] == ["MatMul"]
    assert (costs.operations, costs.weight_bytes) == (2 * 3 * 4 * 6, 4 * 24)


def test_of_a_table_only_the_rows_that_are_looked_up_are_read_but_all_are_kept():
    constants = {"table": np.zeros((1000, 16), np.float32), "rows": np.array([3, 5], np.int64)}
    nodes = [helper.make_node("Add", ["x", "x"], ["i"]), helper.make_node("Cast", ["i"], ["j"], to=TensorProto.INT64), helper.make_node("Gather", ["table", "j"], ["y"])]
    costs = graph_costs(model_of(nodes, {"x": (2,)}, ("y",), constants), zeros({"x": (2,)}))
    gather = costs.nodes[-1]
    assert (gather.weight_bytes, gather.output_bytes, costs.weight_bytes) == (2 * 16 * 4, 2 * 16 * 4, 64_000)


def test_inner_tensors_that_live_at_the_same_time_are_added_up():
    """a and b live while c is made (4 + 8 floats and 4), then b and c are let go; views take no memory."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Concat", ["a", "x"], ["b"], axis=0), helper.make_node("Flatten", ["a"], ["v"], axis=0),
        helper.make_node("Sigmoid", ["v"], ["c"]), helper.make_node("ReduceSum", ["b"], ["d"], keepdims=0), helper.make_node("Add", ["c", "d"], ["y"]),
    ]  # fmt: skip
    costs = graph_costs(model_of(nodes, {"x": (4,)}, ("y",)), zeros({"x": (4,)}))
    assert costs.live_bytes == 4 * (4 + 8 + 4)


def body(name: str, nodes: list, inputs: list, outputs: list, constants: dict[str, np.ndarray] | None = None):
    def info(n: str, shape: list | None, kind: int = TensorProto.FLOAT):
        return helper.make_tensor_value_info(n, kind, shape)

    return helper.make_graph(nodes, name, [info(*i) for i in inputs], [info(*o) for o in outputs],
                             [numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()])  # fmt: skip


def test_a_scan_counts_its_body_for_every_row_and_a_loop_for_its_limit():
    weights = {"w": np.zeros((3, 3), np.float32), "n": np.int64(6), "go": np.bool_(True)}
    step = [helper.make_node("MatMul", ["u", "w"], ["m"]), helper.make_node("Add", ["m", "row"], ["u2"]), helper.make_node("Identity", ["u2"], ["o"])]
    inner = body("b", step, [("u", [1, 3]), ("row", [1, 3])], [("u2", [1, 3]), ("o", [1, 3])])
    scan = helper.make_node("Scan", ["u0", "x"], ["last", "all"], body=inner, num_scan_inputs=1)
    shapes = {"u0": (1, 3), "x": (5, 1, 3)}
    costs = graph_costs(model_of([scan], shapes, ("last", "all"), weights), zeros(shapes))
    assert costs.operations == 5 * (2 * 9 + 3)
    assert costs.weight_bytes == 36
    rounds = body("r", [helper.make_node("MatMul", ["u", "w"], ["u2"]), helper.make_node("Identity", ["c"], ["c2"])],
                  [("i", [], TensorProto.INT64), ("c", [], TensorProto.BOOL), ("u", [1, 3])], [("c2", [], TensorProto.BOOL), ("u2", [1, 3])])  # fmt: skip
    loop = helper.make_node("Loop", ["n", "go", "u0"], ["last"], body=rounds)
    made = graph_costs(model_of([loop], {"u0": (1, 3)}, ("last",), weights), zeros({"u0": (1, 3)}))
    assert made.operations == 6 * 18
    assert "limit of 6 rounds" in made.notes[0]


def test_of_two_branches_the_costlier_is_counted_and_it_is_said():
    cheap = body("a", [helper.make_node("Relu", ["x"], ["p"])], [], [("p", None)])
    dear = body("b", [helper.make_node("MatMul", ["x", "w"], ["q"])], [], [("q", None)])
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0), helper.make_node("Greater", ["s", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=cheap, else_branch=dear, name="choice"),
    ]  # fmt: skip
    costs = graph_costs(model_of(nodes, {"x": (4, 4)}, ("y",), {"w": np.zeros((4, 4), np.float32), "zero": np.float32(0)}), zeros({"x": (4, 4)}))
    assert costs.operations == 16 + 1 + 2 * 64
    assert costs.notes == ("of the branches of If choice, the costlier one is counted",)


def test_shapes_that_only_a_run_shows_are_looked_at():
    """How many elements are not zero decides the length of everything after it."""
    nodes = [
        helper.make_node("NonZero", ["x"], ["where"]), helper.make_node("Cast", ["where"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Sigmoid", ["f"], ["y"]),
    ]  # fmt: skip
    costs = graph_costs(model_of(nodes, {"x": (5,)}, ("y",)), {"x": np.array([0, 1, 0, 2, 3], np.float32)})
    assert costs.nodes[-1].operations == 3
    assert not costs.notes


def test_an_unknown_operator_counts_nothing_and_is_named():
    node = helper.make_node("Fancy", ["x"], ["y"], domain="own")
    made = model_of([node, helper.make_node("Relu", ["x"], ["z"])], {"x": (4,)}, ("z",))
    made.opset_import.append(helper.make_opsetid("own", 1))
    costs = graph_costs(made, zeros({"x": (4,)}))
    assert costs.operations == 4
    assert costs.notes == ("no operations are counted for 1 x Fancy",)


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "attributes", "macs"),
    [
        ("LSTM", [(7, 2, 5), (1, 24, 5), (1, 24, 6)], (7, 1, 2, 6), {}, 7 * 2 * 24 * 11),
        ("GRU", [(7, 2, 5), (2, 18, 5), (2, 18, 6)], (7, 2, 2, 6), {}, 7 * 2 * 2 * 18 * 11),
        ("MatMul", [(3, 1, 4, 5), (2, 5, 6)], (3, 2, 4, 6), {}, 6 * 4 * 5 * 6),
        ("MatMul", [(5,), (5,)], (), {}, 5),
        ("Gemm", [(4, 3), (4, 6)], (3, 6), {"transA": 1}, 3 * 4 * 6),
        ("FusedMatMul", [(7, 2, 3, 4), (7, 2, 3, 5)], (7, 2, 4, 5), {"transA": 1}, 14 * 3 * 4 * 5),
        ("Einsum", [(2, 3, 4), (2, 4, 5)], (2, 3, 5), {"equation": "bij,bjk->bik"}, 2 * 3 * 4 * 5),
        ("Einsum", [(2, 3, 4), (4, 5)], (2, 3, 5), {"equation": "...j,jk->...k"}, 6 * 4 * 5),
        ("Einsum", [(3,), (4,)], (3, 4), {"equation": "i,j->ij"}, 0),
        ("Attention", [(2, 4, 6, 8), (2, 4, 9, 8), (2, 4, 9, 5)], (2, 4, 6, 5), {}, 2 * 4 * 6 * 9 * 13),
        ("Attention", [(2, 6, 32), (2, 9, 16), (2, 9, 16)], (2, 6, 32), {"q_num_heads": 4, "kv_num_heads": 2}, 2 * 4 * 6 * 9 * 16),
        ("QLinearMatMul", [(4, 5), (), (), (5, 6)], (4, 6), {}, 120),
        ("ConvTranspose", [(1, 4, 5, 5), (4, 3, 2, 2)], (1, 3, 10, 10), {"strides": [2, 2]}, 100 * 3 * 4),
    ],
)
def test_products_of_other_operators_are_in_closed_form(kind, inputs, output, attributes, macs):
    node = Node("n", kind, tuple(Port(s, F32) for s in inputs), (Port(output, F32),), attributes)
    assert count(node).macs == macs


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "attributes", "operations"),
    [
        ("Relu", [(3, 4)], (3, 4), {}, 12), ("Sum", [(3,)] * 4, (3,), {}, 9), ("ReduceMean", [(3, 4)], (3,), {}, 12),
        ("MaxPool", [(1, 2, 6, 6)], (1, 2, 3, 3), {"kernel_shape": [2, 2]}, 72), ("Softmax", [(3, 4)], (3, 4), {}, 60),
        ("LayerNormalization", [(3, 4)], (3, 4), {}, 60), ("Transpose", [(3, 4)], (4, 3), {}, 0), ("Reshape", [(3, 4)], (12,), {}, 0),
        ("Resize", [(1, 2, 3, 3)], (1, 2, 6, 6), {"mode": "linear"}, 2 * 72 * 4), ("Resize", [(1, 2, 3, 3)], (1, 2, 6, 6), {"mode": "nearest"}, 0),
    ],
)  # fmt: skip
def test_other_operations_follow_the_stated_convention(kind, inputs, output, attributes, operations):
    found = count(Node("n", kind, tuple(Port(s, F32) for s in inputs), (Port(output, F32),), attributes))
    assert found.operations == operations
    assert (found.bytes_moved == 0) == (kind == "Reshape")


def test_sizes_are_those_of_the_types():
    sizes = {"float32": 12, "float16": 6, "bfloat16": 6, "float64": 24, "int8": 3, "uint8": 3, "bool": 3, "int64": 24, "int4": 2, "float8e4m3fn": 3, "string": 0}
    assert {t: Port((3,), t).bytes for t in sizes} == sizes


@pytest.mark.filterwarnings("ignore")
def test_every_operator_case_of_onnx_is_counted_or_named():
    """onnx's own cases of all its operators, of training and of text too: none raises, and what has no rule is on this list."""
    from onnx.backend.test.case.node import collect_testcases

    unruled = set()
    cases = {case.model.graph.node[0].op_type: case for case in collect_testcases(None) if len(case.model.graph.node) == 1}
    for case in cases.values():
        try:
            inputs = {i.name: np.asarray(a) for i, a in zip(case.model.graph.input, case.data_sets[0][0], strict=False)}
        except ValueError:
            continue  # sequences of tensors of several shapes
        costs = graph_costs(case.model, inputs)
        unruled |= {n.op_type for n in case.model.graph.node if not known(n.op_type) and costs.notes}
    assert len(cases) > 150
    assert unruled <= {
        "AffineGrid", "Adagrad", "Adam", "ArrayFeatureExtractor", "Binarizer", "FlexAttention", "If", "ImageDecoder", "LabelEncoder",
        "LinearAttention", "Loop", "MelWeightMatrix", "Momentum", "NegativeLogLikelihoodLoss", "NonMaxSuppression", "RegexFullMatch", "RoiAlign",
        "Scan", "SequenceMap", "SoftmaxCrossEntropyLoss", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer", "TreeEnsemble",
    }  # fmt: skip


def test_openvino_bundles_count_as_their_onnx_parents_do(small_run, tmp_path):
    pytest.importorskip("openvino")
    for name in ("t1", "t4"):
        parent = flow.export(small_run / "train" / name, "onnx", tmp_path / name)
        child = flow.export(parent.folder, "openvino", tmp_path / f"{name}-ov")
        a, b = costs_of(parent), costs_of(child)
        assert (a.macs, a.calls, a.edge_bytes) == (b.macs, b.calls, b.edge_bytes)
        assert sum(n.inside for _, n in a.nodes()) == sum(n.inside for _, n in b.nodes())


def test_a_format_without_such_graphs_is_refused_in_a_sentence(small_run, tmp_path):
    pytest.importorskip("nir")
    made = flow.export(small_run / "train" / "t1", "nir", tmp_path / "nir")
    with pytest.raises(EdgekitError, match="counted on ONNX and OpenVINO graphs, but .* holds nir"):
        costs_of(made)


def test_inputs_that_do_not_fit_are_refused(tmp_path):
    made = steps_bundle(tmp_path / "a", 2)
    with pytest.raises(EdgekitError, match="'x' must be float32"):
        costs_of(made, {"x": np.zeros((2, 4), np.float32)})
