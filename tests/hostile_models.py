"""Model files as an attacker, a broken download or a careless exporter writes them; each with what edgekit is to say."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from onnx import AttributeProto, TensorProto, helper, numpy_helper

FLOAT, INT32, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL
Make = Callable[[Path], Path | None]


@dataclass(frozen=True)
class Case:
    """A file m.onnx (or the one that make returns) and what is said about it."""

    make: Make
    says: str  # a regular expression
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    apart: bool = False  # a real process of the command line: it may hang, crash or fill the memory
    verb: str = "export"


CASES: dict[str, Case] = {}


def case(name: str, says: str, **more) -> Callable[[Make], Make]:
    def take(make: Make) -> Make:
        assert name not in CASES
        CASES[name] = Case(make, says, **more)
        return make

    return take


def info(name: str, shape, kind: int = FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, inputs=None, outputs=None, weights=(), opset=17, ir=8, functions=(), imports=None):
    """A model; by default one input x and one output y, both of two floats."""
    graph = helper.make_graph(nodes, "g", inputs or [info("x", [2])], outputs or [info("y", [2])], list(weights))
    sets = imports if imports is not None else [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=sets, ir_version=ir, functions=list(functions))


def node(op: str, inputs=("x",), outputs=("y",), **attributes):
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def array(values, name="w", kind=np.float32):
    return numpy_helper.from_array(np.array(values, kind), name)


def save(folder: Path, proto) -> None:
    (folder / "m.onnx").write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())


def weighted(t=None):
    """y = x + w."""
    return model([node("Add", ("x", "w"))], weights=[t if t is not None else array([1, 2])])


def raw(name: str, says: str, content: bytes, **more) -> None:
    case(name, says, **more)(lambda folder: (folder / "m.onnx").write_bytes(content) and None)


def proto(name: str, says: str, build: Callable[[], object], **more) -> None:
    case(name, says, **more)(lambda folder: save(folder, build()))


# --- what is no ONNX file (1 to 6, 15, 45, 46) ---
raw("01 empty file", "is empty", b"")
proto("02 truncated", "not all of one", lambda: weighted().SerializeToString()[:-9])
raw("03 random bytes", "no ONNX file", np.random.default_rng(3).bytes(3000))
raw("04 web page", "web page", b"\n <!DOCTYPE html><html><body>404</body></html>")
raw("05 git-lfs pointer", "git lfs pull", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
case("06 directory as file", "is a folder")(lambda folder: (folder / "m.onnx").mkdir())
case("15a character device", "no regular file")(lambda folder: (folder / "m.onnx").symlink_to("/dev/zero"))
case("15b FIFO", "no regular file")(lambda folder: os.mkfifo(folder / "m.onnx"))


class Runs:
    """What a pickle that attacks looks like: reading it would make a file."""

    def __reduce__(self):
        return os.mkdir, ("pickle-was-read",)


def _zipped(members: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", packing) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return made.getvalue()


raw("45a pickle named .onnx", "pickle, which runs code", pickle.dumps(Runs(), 4))
raw("45b torch checkpoint named .onnx", "checkpoint of torch, a pickle", _zipped({"m/data.pkl": pickle.dumps(Runs()), "m/version": b"3"}))
raw("45c HDF5 named .onnx", "HDF5", b"\x89HDF\r\n\x1a\n" + bytes(500))
raw("45d Keras named .onnx", "Keras model, which may hold code", _zipped({"config.json": b"{}", "model.weights.h5": b"\x89HDF"}))
for suffix, says in ((".pt", "pickle"), (".pkl", "pickle"), (".h5", "Keras"), (".plan", "machine code"), (".tflite", "export it as ONNX")):

    def _named(folder: Path, suffix: str = suffix) -> Path:
        (folder / f"m{suffix}").write_bytes(pickle.dumps(Runs(), 4))
        return folder / f"m{suffix}"

    case(f"45e {suffix}", says)(_named)


@case("45f .pt2 without --trust", "say --trust")
def _pt2(folder: Path) -> Path:
    (folder / "m.pt2").write_bytes(_zipped({"m/archive_format": b"pt2", "m/models/model.json": b"{}"}))
    return folder / "m.pt2"


def _archive(folder: Path, content: bytes) -> Path:
    (folder / "m.pt2").write_bytes(content)
    return folder / "m.pt2"


case("46a zip slip", "would lie elsewhere", options=("--trust",))(lambda f: _archive(f, _zipped({"../../evil": b"x"})))
case("46b zip bomb", "zip bomb|would unpack", options=("--trust",))(lambda f: _archive(f, _bomb()))
case("46c symlink in a zip", "link 'm/link'", options=("--trust",))(lambda f: _archive(f, _link()))
case("46d twice in a zip", "two members of one name", options=("--trust",))(lambda f: _archive(f, _twice()))
case("46e no zip at all", "is not a .pt2: it is a pickle", options=("--trust",))(lambda f: _archive(f, pickle.dumps(Runs(), 4)))


def _bomb() -> bytes:
    made = bytearray(_zipped({"m/data": bytes(1 << 20)}, zipfile.ZIP_DEFLATED))
    at = made.rindex(b"PK\x01\x02")
    made[at + 24 : at + 28] = struct.pack("<I", 0xF0000000)  # the list of members says 4 GB
    return bytes(made)


def _link() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as packed:
        member = zipfile.ZipInfo("m/link")
        member.external_attr = 0o120777 << 16
        packed.writestr(member, "/etc/passwd")
    return made.getvalue()


def _twice() -> bytes:
    return _zipped({"m/a": b"1", "m/b": b"2"}).replace(b"m/b", b"m/a")


@case("46f tar named .onnx", "tar archive")
def _tar(folder: Path) -> None:
    with tarfile.open(folder / "m.onnx", "w") as packed:
        packed.addfile(tarfile.TarInfo("../evil"))


raw("46g gzip named .onnx", "gzip", gzip.compress(bytes(100)))
raw("46h 7z named .onnx", "7z archive", b"7z\xbc\xaf\x27\x1c" + bytes(100))


# --- data in other files (7 to 14) ---
def external(folder: Path, location: str | None, t=None, proto=None, **fields: str) -> None:
    """The weights (or tensor t of proto) said to lie elsewhere."""
    proto = proto or weighted()
    t = t if t is not None else proto.graph.initializer[0]
    _outside(t, location, **fields)
    save(folder, proto)


def _outside(t, location: str | None, **fields: str) -> None:
    t.ClearField("raw_data")
    t.data_location = TensorProto.EXTERNAL
    for key, text in {**({} if location is None else {"location": location}), **fields}.items():
        t.external_data.add(key=key, value=text)


def secret(folder: Path, name: str = "secret.bin", size: int = 8) -> Path:
    """A file of the user's beside the folder of the model."""
    path = folder.parent / name
    path.write_bytes(bytes(size))
    return path


@case("07 external ..", "outside of the model's folder")
def _above(folder: Path) -> None:
    secret(folder)
    external(folder, "../secret.bin")


@case("07b external a/../..", "outside of the model's folder")
def _above_by_a_folder(folder: Path) -> None:
    secret(folder)
    (folder / "a").mkdir()
    external(folder, "a/../../secret.bin")


case("08 external absolute", "outside of the model's folder")(lambda f: external(f, str(secret(f))))
case("08b external /proc", "outside of the model's folder")(lambda f: external(f, "/proc/self/environ"))
case("09 external missing", "'gone.bin', which is not there")(lambda f: external(f, "gone.bin"))


@case("10 external symlink", "outside of the model's folder")
def _symlink(folder: Path) -> None:
    (folder / "w.bin").symlink_to(secret(folder))
    external(folder, "w.bin")


@case("10b external through a linked folder", "outside of the model's folder")
def _linked_folder(folder: Path) -> None:
    secret(folder)
    (folder / "data").symlink_to(folder.parent)
    external(folder, "data/secret.bin")


@case("10c symlinks in a circle", "keeps data in 'w.bin'")
def _circle_of_links(folder: Path) -> None:
    (folder / "w.bin").symlink_to("v.bin")
    (folder / "v.bin").symlink_to("w.bin")
    external(folder, "w.bin")


@case("11 external hard link", "2 names")
def _hard_link(folder: Path) -> None:
    os.link(secret(folder), folder / "w.bin")
    external(folder, "w.bin")


@case("12 sparse external", "outside of the model's folder")
def _sparse(folder: Path) -> None:
    secret(folder)
    made = model([node("Add", ("x", "s"))])
    values, indices = array([1.0], "s"), array([0], "i", np.int64)
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2]))
    external(folder, "../secret.bin", made.graph.sparse_initializer[0].values, made)


@case("12b sparse indices external in a Constant", "outside of the model's folder")
def _sparse_constant(folder: Path) -> None:
    secret(folder)
    made = model([node("Constant", (), ("s",)), node("Add", ("x", "s"))])
    a = made.graph.node[0].attribute.add(name="sparse_value", type=AttributeProto.SPARSE_TENSOR)
    a.sparse_tensor.CopyFrom(helper.make_sparse_tensor(array([1.0], "s"), array([0], "i", np.int64), [2]))
    external(folder, "../secret.bin", a.sparse_tensor.indices, made)


def branches(then, other=None):
    """y = x > 0 somewhere ? then : other."""
    out = [info("b", [2])]
    plain = helper.make_graph([node("Identity", ("x",), ("b",))], "plain", [], out)
    graphs = [helper.make_graph(then, "then", [], out), plain if other is None else helper.make_graph(other, "else", [], out)]
    return node("If", ("c",), ("y",), then_branch=graphs[0], else_branch=graphs[1])


@case("12c external in a branch of an If", "outside of the model's folder")
def _branch(folder: Path) -> None:
    secret(folder)
    made = model([branches([node("Constant", (), ("k",), value=array([1, 2])), node("Add", ("x", "k"), ("b",))])], [info("x", [2]), info("c", [], BOOL)])
    external(folder, "../secret.bin", made.graph.node[0].attribute[1].g.node[0].attribute[0].t, made)


@case("12d external as initializer of a Loop's body", "outside of the model's folder")
def _loop_body(folder: Path) -> None:
    secret(folder)
    made = loop([node("Identity", ("go",), ("on",)), node("Add", ("v", "w"), ("v2",))], weights=[array([1, 2])])
    external(folder, "../secret.bin", made.graph.node[0].attribute[0].g.initializer[0], made)


def loop(body, count=3, weights=(), go=True):
    """y: x after `count` turns of the body, which makes v2 of v, and on."""
    graph = helper.make_graph(body, "body", [info("i", [], INT64), info("go", [], BOOL), info("v", [2])], [info("on", [], BOOL), info("v2", [2])], list(weights))
    return model([node("Loop", ("n", "yes", "x"), ("y",), body=graph)], weights=[array(count, "n", np.int64), array(go, "yes", np.bool_)])


def function(name: str, body, inputs=("p",), outputs=("q",), **more):
    return helper.make_function("own", name, list(inputs), list(outputs), body, [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)], **more)


def calling(*functions, op="f"):
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return model([helper.make_node(op, ["x"], ["y"], domain="own")], functions=functions, imports=sets)


@case("12e external in a function's body", "outside of the model's folder")
def _function_body(folder: Path) -> None:
    secret(folder)
    made = calling(function("f", [node("Constant", (), ("k",), value=array([1, 2])), node("Add", ("p", "k"), ("q",))]))
    external(folder, "../secret.bin", made.functions[0].node[0].attribute[0].t, made)


@case("12f external in the default of a function's attribute", "outside of the model's folder")
def _function_default(folder: Path) -> None:
    secret(folder)
    made = calling(function("f", [node("Relu", ("p",), ("q",))]))
    made.functions[0].attribute_proto.append(helper.make_attribute("k", array([1, 2])))
    external(folder, "../secret.bin", made.functions[0].attribute_proto[0].t, made)


@case("12g external in a list of tensors", "outside of the model's folder")
def _listed(folder: Path) -> None:
    secret(folder)
    made = model([node("Relu")])
    a = made.graph.node[0].attribute.add(name="hidden", type=AttributeProto.TENSORS)
    a.tensors.append(array([1, 2]))
    external(folder, "../secret.bin", a.tensors[0], made)


@case("13 external too short", "other bounds")
def _short(folder: Path) -> None:
    (folder / "w.bin").write_bytes(bytes(4))
    external(folder, "w.bin")


@case("13b length shorter than the tensor", "other bounds")
def _length(folder: Path) -> None:
    (folder / "w.bin").write_bytes(bytes(64))
    external(folder, "w.bin", length="4")


for letter, text in (("a", "-4"), ("b", "1e3"), ("c", "9" * 30), ("d", "99"), ("e", "١")):

    @case(f"14{letter} offset {text[:6]}", "other bounds")
    def _offset(folder: Path, text: str = text) -> None:
        (folder / "w.bin").write_bytes(bytes(64))
        external(folder, "w.bin", offset=text)


@case("14f location said twice", "says so twice")
def _location_twice(folder: Path) -> None:
    made = weighted()
    _outside(made.graph.initializer[0], "a.bin")
    made.graph.initializer[0].external_data.add(key="location", value="b.bin")
    save(folder, made)


case("14g external without a location", "no name of a file")(lambda f: external(f, None))
case("14h location with NUL", "no name of a file")(lambda f: external(f, "w\0.bin"))
case("14i location is the folder", "no name|is a folder")(lambda f: external(f, "."))


@case("14j external FIFO", "no regular file")
def _external_fifo(folder: Path) -> None:
    os.mkfifo(folder / "w.bin")
    external(folder, "w.bin")


@case("14k data here and elsewhere", "says so twice")
def _both(folder: Path) -> None:
    made = weighted()
    _outside(made.graph.initializer[0], "w.bin")
    made.graph.initializer[0].raw_data = bytes(8)
    save(folder, made)


# --- tensors that lie (16 to 20, 43) ---
def lying(dims, kind=FLOAT, **data):
    t = TensorProto(name="w", data_type=kind, dims=dims, **data)
    return weighted(t)


proto("16 tensor of 2^62 bytes", "would take", lambda: lying([1 << 60], raw_data=bytes(8)))
case("16b external tensor of 2^62 bytes", "would take")(lambda f: external(f, "w.bin", proto=(m := lying([1 << 60])), t=m.graph.initializer[0]))
proto("17 dims of 2^31 x 2^31", "would take", lambda: lying([1 << 31, 1 << 31], raw_data=bytes(8)))
proto("17b dims whose product overflows to 2", "would take", lambda: lying([1 << 32, 1 << 32, 2], raw_data=bytes(8)))
proto("18 negative dim", "cannot be", lambda: lying([-2], raw_data=bytes(8)))
proto("18b two negative dims", "cannot be", lambda: lying([-1, -2], raw_data=bytes(8)))
proto("19 raw data short", "12 bytes are needed|are needed, but 8", lambda: lying([3], raw_data=bytes(8)))
proto("19b no data at all", "are needed, but 0", lambda: lying([2]))
proto("19c raw and typed data", "one place was expected", lambda: lying([2], raw_data=bytes(8), float_data=[1, 2]))
proto("19d data of another type", "one place was expected", lambda: lying([2], int64_data=[1, 2]))
proto("19e packed int4 too short", "are needed, but 1", lambda: lying([5], TensorProto.INT4, raw_data=b"\x11"))
proto("19f in segments", "segments", lambda: lying([2], raw_data=bytes(8), segment=TensorProto.Segment(begin=0, end=1)))
proto("19g 1000 axes", "cannot be", lambda: lying([1] * 1000, raw_data=bytes(4)))
proto("20 unknown type", "number 99", lambda: lying([2], 99, raw_data=bytes(8)))
proto("20b a text as weights", "numbers only", lambda: lying([2], TensorProto.STRING, string_data=[b"a", b"b"]))
proto("43 NaN weights", "not numbers", lambda: weighted(array([1, np.nan])))
proto("43b NaN in bfloat16", "not numbers", lambda: lying([2], TensorProto.BFLOAT16, raw_data=b"\x80\x3f\xc1\x7f"))
proto("43c NaN in float16 by int32_data", "not numbers", lambda: lying([2], TensorProto.FLOAT16, int32_data=[0x3C00, 0x7E01]))
proto("43d infinite weights", "infinite", lambda: model([node("MatMul", ("x", "w"))], weights=[array([[np.inf, 0], [0, 1]])]))
proto("43e NaN in a Constant of a branch", "not numbers",
      lambda: model([branches([node("Constant", (), ("b",), value=array([1, np.nan]))])], [info("x", [2]), info("c", [], BOOL)]))  # fmt: skip


# --- graphs that are wrong (21 to 30, 33 to 39, 44) ---
proto("21 circle", "circle", lambda: model([node("Add", ("x", "b"), ("a",)), node("Relu", ("a",), ("b",)), node("Relu", ("b",))]))
proto("21b not in order", "order in which they run", lambda: model([node("Relu", ("a",)), node("Relu", ("x",), ("a",))]))
proto("22 dangling input", "the node 'late' .Add. reads 'nothing'", lambda: model([node("Add", ("x", "nothing"), name="late")]))
proto("22b output that nothing makes", "makes the output 'z'", lambda: model([node("Relu")], outputs=[info("y", [2]), info("z", [2])]))
proto("22c dangling in a branch", "reads 'nothing'", lambda: model([branches([node("Relu", ("nothing",), ("b",))])], [info("x", [2]), info("c", [], BOOL)]))
proto("23 duplicate value", "made once", lambda: model([node("Relu"), node("Neg")]))
proto("23b duplicate initializer", "two initializers called 'w'", lambda: model([node("Add", ("x", "w"))], weights=[array([1, 2]), array([3, 4])]))
proto("23c duplicate input", "two inputs called 'x'", lambda: model([node("Relu")], [info("x", [2]), info("x", [3])]))
proto("23d duplicate output", "twice", lambda: model([node("Relu")], outputs=[info("y", [2]), info("y", [2])]))
proto("23e node that makes a weight", "there already", lambda: model([node("Relu", ("x",), ("w",)), node("Add", ("x", "w"))], weights=[array([1, 2])]))
proto("24 unknown operator", "'Reluu', which opset 17 .* nearest: Relu", lambda: model([node("Reluu")]))
proto("24b operator of a later opset", "another opset has it", lambda: model([node("Gelu")], opset=11))
proto("25 unknown domain", "outside the ONNX standard: evil.so.Run", lambda: model([helper.make_node("Run", ["x"], ["y"], domain="evil.so")]))
proto("25b ONNX Runtime's own operator", "outside the ONNX standard: com.microsoft.Gelu", lambda: model([helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")]))
proto("26 opset 9999", "opset 9999", lambda: model([node("Relu")], opset=9999))
proto("26b opset -1", "opset -1", lambda: model([node("Relu")], opset=-1))
proto("26c no opset", "no opset import", lambda: model([node("Relu")], imports=[]))
proto("26d two opsets", "two versions", lambda: model([node("Relu")], imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx", 9)]))
proto("27 format 99", "ONNX format 99", lambda: model([node("Relu")], ir=99))


@case("28 no outputs", "nodes and outputs")
def _no_outputs(folder: Path) -> None:
    made = model([node("Relu")])
    del made.graph.output[:]
    save(folder, made)


proto("29 declared shape wrong", "no valid ONNX", lambda: model([node("Relu")], outputs=[info("y", [3])]))
proto("30 string into Relu", "no valid ONNX|do not hold", lambda: model([node("Relu")], [info("x", [2], TensorProto.STRING)], [info("y", [2], TensorProto.STRING)]))


def nested(depth: int):
    inner = [node("Relu", ("x",), ("b",))]
    for _ in range(depth):
        graph = helper.make_graph(inner, "t", [], [info("b", [2])])
        other = helper.make_graph([node("Relu", ("x",), ("b",))], "e", [], [info("b", [2])])
        inner = [node("If", ("c",), ("b",), then_branch=graph, else_branch=other)]
    return model([*inner, node("Relu", ("b",))], [info("x", [2]), info("c", [], BOOL)])


proto("34 If in If 20 deep", "16 deep", lambda: nested(20))
proto("37a node name with NUL", "control characters", lambda: model([node("Relu", name="a\0b")]))
proto("37b node name with ANSI", r"control characters: '\\x1b\[31mred", lambda: model([node("Relu", name="\x1b[31mred\x1b[0m\x1b]0;title\x07")]))
proto("37c node name of 100 kB", "100,000 characters", lambda: model([node("Relu", name="n" * 100_000)]))
proto("37d output that turns text round", "control characters", lambda: model([node("Relu", ("x",), ("y\u202egnp.exe",))], outputs=[info("y\u202egnp.exe", [2])]))
proto("37e free dimension with a line end", "control characters", lambda: model([node("Relu")], [info("x", ["n\nerror: all is well"])], [info("y", ["n"])]))
proto("37f domain with ANSI", "control characters", lambda: model([helper.make_node("F", ["x"], ["y"], domain="\x1b[2J")]))
proto("37g name that is no UTF-8", "no UTF-8", lambda: model([node("Relu", name="QQQQ")]).SerializeToString().replace(b"QQQQ", b"\xff\xfeQ\xd8"))
proto("37h doc string of 2 MB", "2,000,000 characters", lambda: model([node("Relu", doc_string="d" * 2_000_000)]))
case("37i file name with ANSI", r"\\x1b\[2Jm\.onnx")(lambda folder: (folder / "\x1b[2Jm.onnx"))
proto("38 Gather out of range", "fails on the golden inputs", lambda: model([node("Gather", ("w", "i"))], [info("i", [1], INT64)], [info("y", ["a"])], [array([], "w")]))
proto("39a two -1 in Reshape", "no valid ONNX|fails|does not run", lambda: model([node("Reshape", ("x", "s"))], outputs=[info("y", None)], weights=[array([-1, -1], "s", np.int64)]))
proto("39b stride 0", "no valid ONNX|fails|does not run", lambda: model([node("MaxPool", kernel_shape=[1], strides=[0])], [info("x", [1, 1, 4])], [info("y", [1, 1, "n"])]))
proto("39c huge pads", "fails|does not run|memory|no valid", lambda: model([node("Pad", ("x", "p"))], outputs=[info("y", ["n"])], weights=[array([1 << 60, 1 << 60], "p", np.int64)]))
for letter, scale in (("", 0.0), ("b", -1.0), ("c", np.inf)):
    proto(f"44{letter} quantise scale {scale}", "a scale is above 0", lambda scale=scale: model([node("QuantizeLinear", ("x", "w"))], outputs=[info("y", [2], TensorProto.UINT8)], weights=[array(scale)]))
proto("44d scale 0 out of a Constant in a branch", "a scale is above 0",
      lambda: model([branches([node("Constant", (), ("k",), value_float=0.0), node("QuantizeLinear", ("x", "k"), ("q",)), node("DequantizeLinear", ("q", "k"), ("b",))])],
                    [info("x", [2]), info("c", [], BOOL)]))  # fmt: skip


# --- models that attack who runs them (31 to 33, 40 to 42) ---
def shaped(shape, fill=1.0):
    return [node("ConstantOfShape", ("s",), ("big",), value=array([fill], "v")), node("ReduceSum", ("big",), ("one",), keepdims=0), node("Add", ("x", "one"))], [array(shape, "s", np.int64)]


def bomb(nodes, weights=(), outputs=None):
    return model(nodes, weights=weights, outputs=outputs)


SMALL = {"EDGEKIT_UNTRUSTED_MB": "1500"}
SHORT = {"EDGEKIT_UNTRUSTED_SECONDS": "4"}
MEMORY = "memory|alloc|no valid ONNX|crash"
proto("31 ConstantOfShape of 4 TB", MEMORY, lambda: bomb(*shaped([1 << 20, 1 << 20])), environment=SMALL)
proto("32 Expand to 2^33 floats", MEMORY, lambda: bomb([node("Expand", ("k", "s"), ("big",)), node("ReduceMax", ("big",), ("one",), keepdims=0), node("Add", ("x", "one"))],
                                                       [array([1.0], "k"), array([1 << 33], "s", np.int64)]), environment=SMALL)  # fmt: skip
proto("33 Tile bomb 1000^6", MEMORY + "|end within|Tile output", lambda: bomb([node("Tile", ("k", "s"), ("big",)), node("ReduceMax", ("big",), ("one",), keepdims=0), node("Add", ("x", "one"))],
                                                   [array(np.ones((1,) * 6), "k"), array([1000] * 6, "s", np.int64)]), environment={**SMALL, **SHORT}, apart=True)  # fmt: skip
proto("40 whole number by 0", "Integer division by zero", lambda: model([node("Div", ("x", "w"))], [info("x", [2], INT32)], [info("y", [2], INT32)], [array([0, 0], "w", np.int32)]))
proto("41 smallest whole number by -1", "SIGFPE|fails", lambda: model([node("Mul", ("x", "z"), ("a",)), node("Add", ("a", "m"), ("b",)), node("Div", ("b", "w"))],
      [info("x", [2], INT32)], [info("y", [2], INT32)], [array([0, 0], "z", np.int32), array([-(1 << 31)] * 2, "m", np.int32), array([-1, -1], "w", np.int32)]), apart=True)  # fmt: skip
proto("42 endless Loop", "does not come to an end within 4 s", lambda: loop([node("Identity", ("go",), ("on",)), node("Neg", ("v",), ("v2",))], 1 << 62), environment=SHORT, apart=True)


def _second_raw() -> bytes:
    made = weighted(TensorProto(name="w", data_type=FLOAT, dims=[2], raw_data=b"ABCDEFGH"))
    t = made.graph.initializer[0].SerializeToString() + b"\x4a\x08AAAAAAAA"
    del made.graph.initializer[:]
    graph = made.graph.SerializeToString() + b"\x2a" + bytes([len(t)]) + t
    made.ClearField("graph")
    return made.SerializeToString() + b"\x3a" + bytes([len(graph)]) + graph if len(graph) < 128 else b""


def _gathering():
    """A Loop whose scan output grows by 4 MB a turn, for ever."""
    body = [node("Identity", ("go",), ("on",)), node("Neg", ("v",), ("v2",)), node("ConstantOfShape", ("s",), ("big",))]
    graph = helper.make_graph(body, "body", [info("i", [], INT64), info("go", [], BOOL), info("v", [2])], [info("on", [], BOOL), info("v2", [2]), info("big", [1 << 20])])
    return model([node("Loop", ("n", "yes", "x"), ("a", "all"), body=graph), node("ReduceMax", ("all",), ("one",), keepdims=0), node("Add", ("a", "one"))],
                 weights=[array(1 << 62, "n", np.int64), array(True, "yes", np.bool_), array([1 << 20], "s", np.int64)])  # fmt: skip


# --- more of the same kind ---
proto("51 function that calls itself", "calls itself", lambda: calling(function("f", [helper.make_node("f", ["p"], ["q"], domain="own")])))
proto("52 two functions that call one another", "calls itself", lambda: calling(
    function("f", [helper.make_node("g", ["p"], ["q"], domain="own")]), function("g", [helper.make_node("f", ["p"], ["q"], domain="own")])))  # fmt: skip


def _deep(count: int, twice: bool):
    made = [function("f0", [node("Relu", ("p",), ("q",))])]
    for i in range(1, count):
        calls = [helper.make_node(f"f{i - 1}", ["p"], ["m"], domain="own"), helper.make_node(f"f{i - 1}", ["m"], ["q"], domain="own")]
        made.append(function(f"f{i}", calls if twice else [helper.make_node(f"f{i - 1}", ["p"], ["q"], domain="own")]))
    return calling(*made, op=f"f{count - 1}")


proto("53 functions that grow to 2^40 nodes", "once its functions are written out", lambda: _deep(40, True))
proto("54 functions 2000 deep", "64 deep", lambda: _deep(2000, False))
proto("55 function in the place of Relu", "place of a standard operator", lambda: (m := model([node("Relu")]), m.functions.append(
    helper.make_function("", "Relu", ["p"], ["q"], [node("Neg", ("p",), ("q",))], [helper.make_opsetid("", 17)])))[0])  # fmt: skip
proto("56 function defined twice", "defines a function twice", lambda: calling(*[function("f", [node("Relu", ("p",), ("q",))])] * 2))
proto("57 external operator hidden in a function", "outside the ONNX standard: evil.Run", lambda: calling(function("f", [helper.make_node("Run", ["p"], ["q"], domain="evil")])))
proto("58 graphs for training", "graphs for training", lambda: (m := weighted(), m.training_info.add())[0])
proto("59 attribute said twice", "attribute twice", lambda: (m := model([node("Elu", alpha=1.0)]), m.graph.node[0].attribute.add(name="alpha", f=2.0, type=1))[0])
proto("60 text attribute of 3 MB", "a text of more than", lambda: (m := model([node("Relu")]), m.graph.node[0].attribute.add(name="t", s=b"s" * 3_000_000, type=3))[0])
proto("61 optional type as input", "do not hold", lambda: model([node("OptionalGetElement")], [helper.make_value_info("x", helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, [2])))]))
proto("62 sequence as input", "do not hold", lambda: model([node("ConcatFromSequence", axis=0)], [helper.make_tensor_sequence_value_info("x", FLOAT, [1])]))
proto("63 map as output", "no valid ONNX|do not hold", lambda: model([node("Identity")], outputs=[helper.make_value_info("y", helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, [2])))]))
proto("64 input without a shape", "'shape' of 'type' is required|how many axes", lambda: model([node("Relu")], [info("x", None)], [info("y", None)]))
proto("65 input of 2^62 values", "values;", lambda: model([node("Relu")], [info("x", [1 << 31, 1 << 31])], [info("y", [1 << 31, 1 << 31])]))
proto("66 input of complex numbers", "do not hold", lambda: model([node("Identity")], [info("x", [2], TensorProto.COMPLEX64)], [info("y", [2], TensorProto.COMPLEX64)]))
proto("67 the graph said twice", "'graph' twice", lambda: weighted().SerializeToString() + model([node("Relu")]).SerializeToString())
proto("68 two raw data in one tensor", "'raw_data' twice", _second_raw)
raw("69 two million empty fields", "2,000,000 fields", b"\x72\x00" * 2_000_001)  # metadata_props
raw("70 a length of 2^63", "not all of one", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
raw("71 a number that does not end", "not all of one", b"\x08" + b"\xff" * 300)
proto("72 x = Concat(x, x), 40 times", MEMORY, lambda: bomb([node("Concat", (f"x{i}" if i else "x",) * 2, (f"x{i + 1}",), axis=0) for i in range(40)]
      + [node("ReduceMax", ("x40",), ("one",), keepdims=0), node("Add", ("x", "one"))]), environment=SMALL, apart=True)  # fmt: skip
proto("73 Range to 10^13", MEMORY + "|end within", lambda: bomb([node("Range", ("a", "b", "d"), ("big",)), node("ReduceMax", ("big",), ("one",), keepdims=0), node("Cast", ("one",), ("f",), to=FLOAT), node("Add", ("x", "f"))],
      [array(0, "a", np.int64), array(10**13, "b", np.int64), array(1, "d", np.int64)]), environment=SMALL)  # fmt: skip
proto("74 chain of ten bombs of 10^9 values", MEMORY, lambda: bomb([node("ConstantOfShape", ("s",), ("z0",), value=array([1.0], "v"))] + [node("Add", (f"z{i}",) * 2, (f"z{i + 1}",)) for i in range(10)]
      + [node("ReduceMax", ("z10",), ("one",), keepdims=0), node("Add", ("x", "one"))], [array([10**9], "s", np.int64)]), environment=SMALL)  # fmt: skip
proto("75 Loop that gathers without end", MEMORY + "|end within", _gathering, environment={**SMALL, "EDGEKIT_UNTRUSTED_SECONDS": "8"}, apart=True)
proto("76 random numbers that decide", "draws random numbers inside, by the node 'dice'", lambda: model([node("RandomUniformLike", ("x",), ("r",), name="dice"), node("Greater", ("r", "x"), ("g",)), node("Cast", ("g",), ("y",), to=FLOAT)]))
proto("77 answers that are not finite", "infinities or NaN", lambda: model([node("Div", ("x", "w"))], weights=[array([0, 0])]))
proto("78 negative OneHot depth", "fails|no valid|does not run", lambda: model([node("OneHot", ("x", "d", "v"))], [info("x", [2], INT64)], [info("y", ["a", "b"])], [array(-5, "d", np.int64), array([0, 1], "v")]))
proto("79 Conv of group 0", "no valid|fails|does not run|SIGFPE", lambda: model([node("Conv", ("x", "w"), group=0)], [info("x", [1, 1, 4])], [info("y", [1, 1, "n"])], [array(np.ones((1, 1, 1)))]), apart=True)
proto("80 scale of the wrong type", "no valid", lambda: model([node("Elu", alpha=3)]))
proto("81 quantised weights with a scale for every channel, one of them 0", "a scale is above 0", lambda: model(
    [node("DequantizeLinear", ("q", "w"), ("d",), axis=0), node("Add", ("x", "d"))], weights=[array([1, 2], "q", np.int8), array([1, 0])]))  # fmt: skip
raw("82 a safetensors file", "safetensors", struct.pack("<Q", 2) + b"{}")
raw("83 a TensorRT plan", "machine code", b"ftrt" + bytes(200))
raw("84 JSON", "JSON", b'{"error": "not found"}')


def _deep_messages(depth: int) -> bytes:
    """graph > node > attribute > graph > ..., by hand: no library writes it."""
    made = b""
    for i in range(depth):
        tag = (b"\x0a", b"\x32", b"\x2a")[i % 3]  # node of a graph, attribute of a node, g of an attribute
        size, length = len(made), b""
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        made = tag + length + bytes([size]) + made
    size, length = len(made), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return b"\x3a" + length + bytes([size]) + made


CASES["35 messages 6000 deep"] = Case(lambda f: (f / "m.onnx").write_bytes(_deep_messages(5998)) and None, "90 deep")
CASES["35b messages 60000 deep"] = Case(lambda f: (f / "m.onnx").write_bytes(_deep_messages(59998)) and None, "90 deep")


def _npz(name: str, says: str, content: Callable[[], bytes]) -> None:
    def make(folder: Path) -> None:
        save(folder, model([node("Relu")]))
        (folder / "x.npz").write_bytes(content())

    case(name, says, options=("--example", "x.npz"))(make)


def _npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


_npz("85 example with objects (pickle)", "no .npz", lambda: _zipped({"x.npy": _npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", pickle.dumps([Runs()]))}))
_npz("86 example said to be 4 TB", "no .npz", lambda: _zipped({"x.npy": _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }")}))
_npz("87 example that is a zip bomb", "no .npz|bomb|unpack", _bomb)
_npz("88 example whose header is an expression", "no .npz", lambda: _zipped({"x.npy": _npy("{'descr': __import__('os').mkdir('evil'), 'fortran_order': False, 'shape': (), }")}))
proto("89 an answer of half a gigabyte", "answers with|memory", lambda: model([node("Expand", ("x", "s"))], [info("x", [1])], [info("y", ["n"])], [array([1 << 27], "s", np.int64)]))


# --- manifests, recipes, plans of sweeps ---
def _bundle(name: str, says: str, change: Callable[[dict], object] | None = None, content: bytes | None = None) -> None:
    def make(folder: Path) -> Path:
        from toy_bundles import bundle, decay

        from edgekit.program import Phase, Program, value
        from edgekit.signature import Signature

        model, signature = decay("batch", 2)
        program = Program((Phase("main", inputs={"x": value("x"), "u": value("u")}, outputs={"u_next": "u_next"}),))
        made = bundle(folder / "b", {"main": (model, signature)}, Signature(signature.inputs, signature.outputs), program).folder
        if content is not None:
            (made / "bundle.json").write_bytes(content)
        if change is not None:
            data = json.loads((made / "bundle.json").read_text())
            changed = change(data)
            (made / "bundle.json").write_text(json.dumps(changed if isinstance(changed, dict) else data))
        return made

    case(name, says, verb="verify")(make)


_bundle("90a manifest nested 100,000 deep", "nested too deep", content=b"[" * 100_000)
_bundle("90b manifest nested 200 deep", "more than 64 deep", content=b"[" * 200 + b"]" * 200)
_bundle("90c manifest with a key twice", "'name' twice", content=b'{"name": 1, "name": 2}')
_bundle("90d manifest with NaN", "NaN is no number", content=b'{"score": NaN}')
_bundle("90e manifest in UTF-16", "not JSON", content='{"name": "x"}'.encode("utf-16"))
_bundle("90f manifest whose name clears the screen", r"'\\x1b\[2Jtoy' has control characters", lambda d: {**d, "name": "\x1b[2Jtoy"})
_bundle("90g manifest with half a pair", "control characters", content=b'{"name": "\\ud800"}')
_bundle("90h manifest with a number of 5,000 digits", "not JSON", content=b'{"n": ' + b"9" * 5000 + b"}")
_bundle("90i file above the bundle", "would lie outside", lambda d: d["files"].update({"../secret.bin": "0" * 64}))
_bundle("90j file that is not there", "differ from what", lambda d: d["files"].update({"more.bin": "0" * 64}))
_bundle("90k graph of a size below 0", "has dtype", lambda d: d["signature"]["inputs"][0].update(shape=[-1]))


_bundle("90o graph named like a path", "must be named by letters",
        lambda d: {**d, "graphs": {"../../up": d["graphs"]["main"]}})


@case("90l manifest that is a FIFO", "no bundle in", verb="verify")
def _fifo_manifest(folder: Path) -> Path:
    os.mkfifo(folder / "bundle.json")
    return folder


@case("90m manifest of 100 MB", "has 100 MB, a manifest of up to 32 MB", verb="verify")
def _large_manifest(folder: Path) -> Path:
    (folder / "bundle.json").touch()
    os.truncate(folder / "bundle.json", 100_000_000)
    return folder


@case("90n graph changed to a link", "was changed after|differ", verb="verify")
def _linked_graph(folder: Path) -> Path:
    made = CASES["90j file that is not there"].make(folder)
    data = json.loads((made / "bundle.json").read_text())
    del data["files"]["more.bin"]
    (made / "bundle.json").write_text(json.dumps(data))
    (made / "main.onnx").rename(folder.parent / "main.onnx")
    (made / "main.onnx").symlink_to(folder.parent / "main.onnx")
    return made


def _toml(name: str, says: str, content: bytes, verb: str) -> None:
    def make(folder: Path) -> Path:
        (folder / "m.toml").write_bytes(content)
        return folder / "m.toml"

    case(name, says, verb=verb)(make)


_toml("91a recipe nested without end", "nested too deep|not a TOML", b"a = " + b"[" * 50_000, "train")
_toml("91b recipe of 100,000 tables in one another", "64 tables in one another", b"a." * 100_000 + b"a = 1", "train")
_toml("91c recipe with a number of 5,000 digits", "not a TOML", b"a = " + b"9" * 5000, "train")
_toml("91d recipe that is no text", "no UTF-8", b"\xff\xfe\x00", "train")
_toml("91e recipe of a family with ANSI", "control characters", b'family = "\\u001b[31mred"', "train")
_toml("91f sweep nested without end", "nested too deep|not a TOML", b"a = " + b"[" * 50_000, "sweep")
_toml("91g sweep whose model is a name like a path", "letters, digits", b'[[models]]\nfile = "m.onnx"\nname = "../../up"\n', "sweep")
case("92 external in the body of a Scan", "outside of the model's folder")(lambda f: _scan(f))  # noqa: PLW0108 - made below


def _scan(folder: Path) -> None:
    secret(folder)
    body = helper.make_graph([node("Add", ("s", "w"), ("s2",)), node("Identity", ("e",), ("o",))], "body", [info("s", [2]), info("e", [2])], [info("s2", [2]), info("o", [2])], [array([1, 2])])
    made = model([node("Scan", ("x", "l"), ("y", "all"), body=body, num_scan_inputs=1)], [info("x", [2]), info("l", [3, 2])])
    external(folder, "../secret.bin", next(a for a in made.graph.node[0].attribute if a.name == "body").g.initializer[0], made)
