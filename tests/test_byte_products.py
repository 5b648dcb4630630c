"""INT8 answers are the same on processors without VNNI, where vpmaddubsw would hold sums of two products to int16; this one may be either."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit import byte_products, examine, flow
from edgekit.byte_products import saturate
from edgekit.intake import Wishes

RUNTIMES = ("onnxruntime", "openvino", "cpp", "cpp_openvino")


def loud(path: Path, kind: str, shared: bool, most: int = 127) -> Path:
    """Two layers of bytes near 200 times weights of 95 and more: every second pair of products leaves int16. Scales are powers of two, so that
    nothing is rounded twice. shared: the layers share a zero point of weights, as equal constants of other tools do."""
    dice = np.random.default_rng(0)
    shape, fed, gives = ((16, 16, 3, 3), [1, 16, 8, 8], [1, 16, 4, 4]) if kind == "Conv" else ((32, 32), [3, 32], [3, 32])
    products = 144 if kind == "Conv" else 32
    scales = {"sx": 2.0**-6, "sw": 2.0 ** np.round(np.log2(0.5 / most / products**0.5)), "sy": 2.0**-6}
    tensors = [numpy_helper.from_array(np.float32(v), n) for n, v in scales.items()]
    tensors += [numpy_helper.from_array(np.uint8(v), n) for n, v in (("zx", 200), ("zy", 128))]
    nodes, before = [], "x"
    for i in range(2):
        zero = "zw0" if shared else f"zw{i}"
        size = dice.integers(most * 3 // 4, most + 1, shape) * dice.choice([-1, 1], shape, p=[0.5, 0.5])
        tensors.append(numpy_helper.from_array(size.astype(np.int8), f"w{i}"))
        if zero == f"zw{i}":
            tensors.append(numpy_helper.from_array(np.int8(0), zero))
        nodes += [
            helper.make_node("QuantizeLinear", [before, "sx", "zx"], [f"q{i}"]), helper.make_node("DequantizeLinear", [f"q{i}", "sx", "zx"], [f"d{i}"]),
            helper.make_node("DequantizeLinear", [f"w{i}", "sw", zero], [f"v{i}"]), helper.make_node(kind, [f"d{i}", f"v{i}"], [f"p{i}"]),
        ]  # fmt: skip
        before = f"p{i}"
    nodes += [helper.make_node("QuantizeLinear", [before, "sy", "zy"], ["last"]), helper.make_node("DequantizeLinear", ["last", "sy", "zy"], ["y"])]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, fed)], [value("y", TensorProto.FLOAT, gives)], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", ["Conv", "MatMul"])
def test_a_model_of_bytes_answers_as_its_file_says_in_every_engine(tmp_path: Path, kind: str, shared: bool):
    bundle = flow.export(str(loud(tmp_path / "m.onnx", kind, shared)), "onnx", tmp_path / "b", Wishes())
    answer = bundle.goldens()[0].outputs["y"]
    assert len(np.unique(answer)) > 8 and np.mean((answer == 127 / 64) | (answer == -2)) < 0.1, "answers at the ends of the bytes would hide what saturates"
    for name in RUNTIMES:
        found = examine.verify(bundle, name, 0)
        assert found.passed, (name, found.failures)


def test_who_saturates_is_read_from_the_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def of(flags: str, machine: str = "x86_64") -> bool:
        monkeypatch.setattr("platform.machine", lambda: machine)
        path = tmp_path / f"{machine} {flags}"
        path.write_text(f"processor\t: 0\nmodel name\t: a processor\nflags\t\t: fpu sse2 {flags}\nbugs\t\t: avx_vnni\n")
        return saturate(path)

    assert of("avx2 fma") and of("avx2 avx512f avx512bw")
    assert not of("avx2 avx512f avx512_vnni") and not of("avx2 avx_vnni") and not of("avx2", "aarch64")
    monkeypatch.setattr("platform.machine", lambda: "AMD64")
    assert saturate(tmp_path / "absent"), "who does not say what it has gets the way that is right"


@pytest.mark.parametrize("kind", ["Conv", "MatMul"])
def test_what_cannot_saturate_keeps_its_fast_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    import openvino as ov

    large, small = (ov.Core().read_model(loud(tmp_path / f"{most}.onnx", kind, False, most)) for most in (127, 64))
    monkeypatch.setattr(byte_products, "saturate", lambda: True)
    assert byte_products.openvino_settings(large, exact=False) == byte_products.OPENVINO_FLOAT
    assert byte_products.openvino_settings(large, exact=True) == byte_products.openvino_settings(small, exact=False) == {}
    monkeypatch.setattr(byte_products, "saturate", lambda: False)
    assert byte_products.openvino_settings(large, exact=False) == {}


def test_weights_of_seven_bits_are_right_in_integers(tmp_path: Path):
    bundle = flow.export(str(loud(tmp_path / "m.onnx", "Conv", False, 64)), "onnx", tmp_path / "b", Wishes())
    for name in RUNTIMES:
        found = examine.verify(bundle, name, 0)
        assert found.passed, (name, found.failures)
