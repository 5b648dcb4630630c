"""Broken and hostile bundles and files in the C++ runner: one clear line, exit code 2, nothing written, within memory and time."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import save

from edgekit import registry
from edgekit.parts import Runtime
from edgekit.runtimes import _cpp_build, cpp

MEMORY_BYTES = 2 << 30  # of addresses; ONNX Runtime itself maps about 300 MB
LIMIT_S = 60  # a refusal takes milliseconds; a busy machine takes longer
GOOD = "{}"
Spoil = Callable[[Path], object]


def table(rows: dict[str, np.ndarray]) -> bytes:
    return bytes(save({k: np.ascontiguousarray(v) for k, v in rows.items()}))


def graph(nodes: list[onnx.NodeProto] | None = None, **more: Any) -> bytes:
    """x_next = x * level, or other nodes that make it."""
    made = helper.make_graph(
        nodes or [helper.make_node("Mul", ["x", "level"], ["x_next"])], "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4]), helper.make_tensor_value_info("level", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("x_next", TensorProto.FLOAT, None)], **more)  # fmt: skip
    return bytes(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


def port(name: str, *shape: object, dtype: str = "float32") -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": list(shape), "meaning": ""}


def phase(**more: Any) -> dict[str, Any]:
    return {"run": "steps", "steps": 2, "graph": "main", "states": {"x": {"dtype": "float32", "shape": ["batch", 4], "initial": {"value": "x0"}}},
            "inputs": {"x": {"value": "x"}, "level": {"row": "levels"}}, "outputs": {}, "carry": {"x_next": "x"},
            "epilogue": [{"op": "argmax", "of": {"value": "x"}, "axis": -1, "to": "code"}], "collect": {}} | more  # fmt: skip


def manifest() -> dict[str, Any]:
    return {
        "format_version": 4, "name": "toy", "format": "onnx", "variant": "", "precision": "f32",
        "signature": {"inputs": [port("x0", "batch", 4)], "outputs": [port("x", "batch", 4), port("code", "batch", dtype="int64")]},
        "graphs": {"main": {"file": "m.onnx", "inputs": [port("x", "batch", 4), port("level", 4)], "outputs": [port("x_next", "batch", 4)], "probes": []}},
        "program": {"seed": 0, "phases": [phase()]}, "golden": {"answers_by": "", "inputs_from": ""}, "model": None,
        "allowed": {"output_max_abs": {}, "near_threshold": 0, "score_drop": 0, "exact": False, "sqnr_db": {}, "same_share": {}},
        "lineage": {"step": "", "parent_sha256": "", "options": {}, "tools": {}}, "details": {}, "prepares": [], "task": "", "tasks": {}, "files": {},
    }  # fmt: skip


def seal(folder: Path, data: dict[str, Any]) -> None:
    """Write the manifest with the true hashes of all regular files beside it, those of links by what they point at."""
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        if file.name != "bundle.json":
            data["files"].setdefault(str(file.relative_to(folder)), hashlib.sha256(file.read_bytes()).hexdigest())
    (folder / "bundle.json").write_text(json.dumps(data))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "good"
    folder.mkdir()
    (folder / "m.onnx").write_bytes(graph())
    levels = np.float32([[1, 2, 3, 4], [2, 2, 2, 2]])
    x0 = np.float32([[1, 0, 1, 0], [0, 5, 0, 1]])
    (folder / "tensors.safetensors").write_bytes(table({"levels": levels}))
    x = x0 * levels[0] * levels[1]
    (folder / "golden.safetensors").write_bytes(table({"inputs/x0": x0, "outputs/x": x, "outputs/code": x.argmax(1)}))
    seal(folder, manifest())
    return folder


@pytest.fixture(scope="module")
def runner() -> Path:
    part = registry.load(Runtime, "cpp")
    if part.ready():
        pytest.skip(part.ready())
    return Path(str(_cpp_build.runner(cpp.NATIVE)))


def limits() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def said(runner: Path, folder: Path, *more: str) -> subprocess.CompletedProcess[bytes]:
    command = [str(runner), str(folder), "--library", str(_cpp_build.onnxruntime_folder()), "--threads", "1", *more]
    return subprocess.run(command, capture_output=True, check=False, timeout=LIMIT_S, cwd=folder.parent, preexec_fn=limits,
                          env={**os.environ, "EDGEKIT_PYTHON": sys.executable})  # fmt: skip


# Ways to spoil a folder.


def text(content: str | bytes, name: str = "bundle.json") -> Spoil:
    return lambda f: (f / name).write_bytes(content.encode() if isinstance(content, str) else content)


def edited(change: Callable[[dict[str, Any]], object]) -> Spoil:
    """The manifest changed, and sealed."""

    def spoil(folder: Path) -> None:
        data = manifest()
        change(data)
        seal(folder, data)

    return spoil


def replaced(name: str, content: bytes) -> Spoil:
    """A file changed, and the manifest sealed with its hash."""

    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(content)
        seal(folder, manifest())

    return spoil


def in_manifest(old: str, new: str) -> Spoil:
    def spoil(folder: Path) -> None:
        before = (folder / "bundle.json").read_text()
        assert old in before
        (folder / "bundle.json").write_text(before.replace(old, new, 1))

    return spoil


def moved_and_linked(name: str) -> Spoil:
    """A file of the bundle as a link to the same bytes outside of it."""

    def spoil(folder: Path) -> None:
        shutil.move(folder / name, folder.parent / f"outside-{name}")
        (folder / name).symlink_to(folder.parent / f"outside-{name}")

    return spoil


def fifo(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return spoil


def linked_folder(folder: Path) -> None:
    outside = folder.parent / "graphs"
    outside.mkdir()
    shutil.move(folder / "m.onnx", outside / "m.onnx")
    (folder / "graphs").symlink_to(outside)
    data = manifest()
    data["graphs"]["main"]["file"] = "graphs/m.onnx"
    data["files"]["graphs/m.onnx"] = hashlib.sha256((outside / "m.onnx").read_bytes()).hexdigest()
    seal(folder, data)


def header(data: object, values: bytes = b"") -> bytes:
    head = data.encode() if isinstance(data, str) else json.dumps(data).encode()
    return struct.pack("<Q", len(head)) + head + values


def tensor(shape: list[object], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def tensors(content: bytes) -> Spoil:
    return replaced("tensors.safetensors", content)


def program(**more: Any) -> Spoil:
    return edited(lambda d: d["program"]["phases"][0].update(more))


def state(*shape: object) -> Spoil:
    extra = {"dtype": "float32", "shape": list(shape), "initial": {"noise": "normal", "id": 1, "calls": 0}}
    return edited(lambda d: d["program"]["phases"][0]["states"].update(big=extra))


def golden(**more: np.ndarray) -> Spoil:
    return replaced("golden.safetensors", table({"inputs/x0": np.ones((2, 4), np.float32), **{k.replace("__", "/"): v for k, v in more.items()}}))


def declared(dtype: str, *shape: object) -> Spoil:
    """The manifest says of the graph's output what is not so; the program only carries it on."""

    def change(data: dict[str, Any]) -> None:
        data["graphs"]["main"]["outputs"] = [port("x_next", *shape, dtype=dtype)]
        data["signature"]["outputs"] = [port("y", *shape, dtype=dtype)]
        data["program"]["phases"] = [phase(states={}, inputs={"x": {"value": "x0"}, "level": {"row": "levels"}}, outputs={"x_next": "y"}, carry={}, epilogue=[])]

    return edited(change)


def external(location: str) -> Spoil:
    """A model whose weights lie in another file."""

    def spoil(folder: Path) -> None:
        (folder.parent / "secret.bin").write_bytes(np.ones(4, np.float32).tobytes())
        weight = TensorProto(name="level2", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
        weight.external_data.add(key="location", value=location)
        nodes = [helper.make_node("Mul", ["x", "level"], ["z"]), helper.make_node("Mul", ["z", "level2"], ["x_next"])]
        (folder / "m.onnx").write_bytes(graph(nodes, initializer=[weight]))
        seal(folder, manifest())

    return spoil


def constant_of_shape(folder: Path) -> None:
    """Four terabytes, asked for by the graph."""
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [2], [1 << 20, 1 << 20])
    nodes = [helper.make_node("ConstantOfShape", ["sizes"], ["c"]), helper.make_node("ReduceSum", ["c"], ["s"], keepdims=0),
             helper.make_node("Mul", ["x", "level"], ["z"]), helper.make_node("Mul", ["z", "s"], ["x_next"])]  # fmt: skip
    replaced("m.onnx", graph(nodes, initializer=[sizes]))(folder)


def overlapping(folder: Path) -> None:
    """8 MB that a thousand tensors all claim: 8 GB, were they made before they are compared."""
    size = 8 << 20
    tensors(header({f"t{i}": tensor([size // 4], 0, size) for i in range(1000)}, bytes(size)))(folder)


def input_file(name: str, content: bytes) -> Spoil:
    return lambda f: (f.parent / name).write_bytes(content)


def npy(head: str, data: bytes = b"", version: int = 1, length: int | None = None) -> bytes:
    size = struct.pack("<H" if version == 1 else "<I", len(head) if length is None else length)
    return b"\x93NUMPY" + bytes((version, 0)) + size + head.encode() + data


def wav(fmt: tuple[int, ...], data: bytes = bytes(8), magic: bytes = b"RIFF", chunk: bytes = b"fmt ") -> bytes:
    body = struct.pack("<HHIIHH", *fmt)
    return magic + struct.pack("<I", 36 + len(data)) + b"WAVE" + chunk + struct.pack("<I", 16) + body + b"data" + struct.pack("<I", len(data)) + data


@dataclass(frozen=True)
class Case:
    name: str
    spoil: Spoil
    says: str
    more: tuple[str, ...] = ("--golden",)


X0 = ("--input", "x0=in.npy", "--output", "x=out.npy")
SOUND = ("--input", "x0=in.wav", "--output", "x=out.npy")
FLOATS = bytes(32)
ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\n\u202e"
LONG = "n" * 100_000

CASES = [
    Case("empty manifest", text(""), "not JSON"),
    Case("truncated manifest", lambda f: (f / "bundle.json").write_bytes((f / "bundle.json").read_bytes()[:-40]), "not JSON"),
    Case("random bytes", text(np.random.default_rng(0).bytes(5000)), "not JSON"),
    Case("HTML page", text("<!DOCTYPE html><html><body>404</body></html>"), "not JSON"),
    Case("LFS pointer", text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"), "not JSON"),
    Case("manifest is a folder", lambda f: ((f / "bundle.json").unlink(), (f / "bundle.json").mkdir()), "no regular file"),
    Case("manifest is a FIFO", fifo("bundle.json"), "no regular file"),
    Case("manifest is a link", moved_and_linked("bundle.json"), "no regular file"),
    Case("manifest of 20 MB", text(b" " * (20 << 20)), "above the"),
    Case("a million arrays deep", text("[" * 1_000_000 + "]" * 1_000_000), "deep"),
    Case("deep version", in_manifest('"format_version": 4', '"format_version": ' + "[" * 200_000 + "]" * 200_000), "deep"),
    Case("deep details", in_manifest('"details": {}', '"details": ' + '{"a":' * 100_000 + "0" + "}" * 100_000), "deep"),
    Case("two million values", in_manifest('"details": {}', '"details": {"a": [' + "0," * 2_000_000 + "0]}"), "values"),
    Case("a name twice", in_manifest('"name": "toy"', '"name": "toy", "name": "other"'), "twice"),
    Case("a nested name twice", in_manifest('"file": "m.onnx"', '"file": "m.onnx", "file": "n.onnx"'), "twice"),
    Case("number beyond float64", in_manifest('"near_threshold": 0', '"near_threshold": 1e999'), "not JSON"),
    Case("NaN", in_manifest('"near_threshold": 0', '"near_threshold": NaN'), "not JSON"),
    Case("bytes that are no UTF-8", lambda f: (f / "bundle.json").write_bytes((f / "bundle.json").read_bytes().replace(b'"toy"', b'"\xc3\x28"')), "not JSON"),
    Case("NUL in a name", in_manifest('"file": "m.onnx"', '"file": "m.onnx\\u0000.txt"'), "NUL"),
    Case("name of 100 kB", edited(lambda d: d["program"]["phases"][0].update(graph=LONG)), "at most 1024"),
    Case("key of 100 kB", edited(lambda d: d["graphs"].update({LONG: d["graphs"]["main"]})), "above 1024"),
    Case("escapes in a name", edited(lambda d: d["program"]["phases"][0].update(graph=ESCAPES)), "runs the graph '\\x1b[2J"),
    Case("other version", edited(lambda d: d.update(format_version=5)), "is of bundle format 5"),
    Case("seed beyond 2^64", in_manifest('"seed": 0', '"seed": 18446744073709551616'), "program.seed"),
    Case("graph outside by ..", edited(lambda d: (d["graphs"]["main"].update(file="../m.onnx"), d["files"].update({"../m.onnx": "0"}))), "outside the bundle"),
    Case("graph outside, absolute", edited(lambda d: (d["graphs"]["main"].update(file="/etc/passwd"), d["files"].update({"/etc/passwd": "0"}))), "outside the bundle"),
    Case("graph that is not listed", edited(lambda d: d["graphs"]["main"].update(file="../m.onnx")), "not listed"),
    Case("graph is a link", moved_and_linked("m.onnx"), "no regular file"),
    Case("graph in a linked folder", linked_folder, "differ from what bundle.json lists"),
    Case("graph is a FIFO", fifo("m.onnx"), "no regular file"),
    Case("graph is /dev/zero", lambda f: ((f / "m.onnx").unlink(), (f / "m.onnx").symlink_to("/dev/zero")), "no regular file"),
    Case("graph is missing", lambda f: (f / "m.onnx").unlink(), "differ from what bundle.json lists: m.onnx"),
    Case("a file too many", lambda f: (f / "\x1b[31mextra").write_bytes(b""), "\\x1b[31mextra"),
    Case("folders 40 deep", lambda f: (f / "/".join("d" * 40)).mkdir(parents=True), "deep"),
    Case("graph changed", lambda f: (f / "m.onnx").write_bytes(graph() + b"\0"), "was changed"),
    Case("hash that is none", edited(lambda d: d["files"].update({"m.onnx": 7})), "files.m.onnx must be a name"),
    Case("preparation outside", edited(lambda d: d.update(prepares=[".."])), "the preparation '..'"),
    Case("no tensors file", tensors(b"abc"), "it has 3 bytes"),
    Case("header beyond the file", tensors(struct.pack("<Q", 1 << 40) + b"{}"), "header is longer than the file"),
    Case("header of 2^64 - 1", tensors(b"\xff" * 8 + b"{}"), "header is longer than the file"),
    Case("header deep", tensors(header("[" * 100_000 + "]" * 100_000)), "deep"),
    Case("tensor that lies", tensors(header({"levels": tensor([2, 4], 0, 16)}, bytes(16))), "larger than its file"),
    Case("offsets that lie", tensors(header({"levels": tensor([2, 2], 0, 32)}, bytes(32))), "offsets say otherwise"),
    Case("negative size", tensors(header({"levels": tensor([-2, -4], 0, 32)}, bytes(32))), "whole number"),
    Case("2^40 x 2^40", tensors(header({"levels": tensor([1 << 40, 1 << 40], 0, 32)}, bytes(32))), "larger than its file"),
    Case("0 x 2^40 x 2^40", tensors(header({"levels": tensor([0, 1 << 40, 1 << 40], 0, 0)})), "larger than its file"),
    Case("17 axes", tensors(header({"levels": tensor([1] * 17, 0, 4)}, bytes(4))), "at most 16"),
    Case("tensors that overlap", overlapping, "overlap or leave a hole"),
    Case("hole", tensors(header({"levels": tensor([2, 4], 4, 36)}, bytes(36))), "overlap or leave a hole"),
    Case("bytes behind", tensors(header({"levels": tensor([2, 4], 0, 32)}, bytes(40))), "ends at 32 of 40"),
    Case("tensor name twice", tensors(header('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"1")), "twice"),
    Case("unknown dtype", tensors(header({"levels": tensor([2, 4], 0, 16, "BF16")}, bytes(16))), "dtype"),
    Case("golden without inputs", replaced("golden.safetensors", table({"outputs/x": np.ones((1, 4), np.float32)})), "missing"),
    Case("golden of another shape", golden(inputs__x0=np.ones((4,), np.float32)), "must be float32"),
    Case("state that wraps around", state(1 << 40, 1 << 22), "sizes that memory holds"),
    Case("state of a terabyte", state(1 << 38), "sizes that memory holds"),
    Case("state beyond the memory cap", state(1 << 30), "memory"),
    Case("argmax along 2^32", program(epilogue=[{"op": "argmax", "of": {"value": "x"}, "axis": 1 << 32, "to": "code"}]), "whole number"),
    Case("factor beyond float32", program(epilogue=[{"op": "affine", "terms": [{"of": {"value": "x"}, "by": 1e300}], "to": "x"}]), "float32 holds"),
    Case("2^31 steps without rows", program(steps=(1 << 31) - 1), "which has 2147483647 steps"),
    Case("an input twice", edited(lambda d: d["signature"]["inputs"].append(port("x0", "batch", 4))), "twice"),
    Case("output that is no uint8", declared("uint8", "batch", 4), "uint8"),
    Case("output that is no float16", declared("float16", 2, 4), "float16"),
    Case("output of fewer axes", declared("float32", "n"), "'y' is float32 [n] here"),
    Case("output that is smaller", declared("float32", 1, 1), "onnxruntime"),
    Case("graph of random bytes", replaced("m.onnx", np.random.default_rng(1).bytes(3000)), "cannot open"),
    Case("graph that is empty", replaced("m.onnx", b""), "cannot open"),
    Case("graph with an unknown operator", replaced("m.onnx", graph([helper.make_node("Nothing", ["x"], ["x_next"])])), "cannot open"),
    Case("weights by ..", external("../secret.bin"), "cannot open"),
    Case("weights by an absolute path", external("/etc/passwd"), "cannot open"),
    Case("graph that asks for 4 TB", constant_of_shape, "onnxruntime"),
    Case("array that is none", input_file("in.npy", b"no array"), "no .npy file", X0),
    Case("array cut in its header", input_file("in.npy", npy("{", length=5000)), "ends in its header", X0),
    Case("array with a header of 4 GB", input_file("in.npy", npy("{", version=2, length=0xFFFFFFFF)), "ends in its header", X0),
    Case("array of objects", input_file("in.npy", npy("{'descr': '|O', 'fortran_order': False, 'shape': (2, 4), }", b"\x80\x04K\x01.")), "type '|O'", X0),
    Case("array of records", input_file("in.npy", npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (8,), }", FLOATS)), "bundles do not take", X0),
    Case("array by columns", input_file("in.npy", npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 4), }", FLOATS)), "column-major", X0),
    Case("array that is short", input_file("in.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }", FLOATS)), "shorter than its shape", X0),
    Case("array that is huge", input_file("in.npy", npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({1 << 40}, {1 << 40}), }}", FLOATS)), "shorter than its shape", X0),
    Case("array of negative size", input_file("in.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 4), }", FLOATS)), "no .npy file", X0),
    Case("array whose header computes", input_file("in.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2*4,), }", FLOATS)), "no .npy file", X0),
    Case("sound that is none", input_file("in.wav", b"ID3"), "no WAVE file", SOUND),
    Case("sound without channels", input_file("in.wav", wav((1, 0, 16000, 0, 0, 16))), "how many channels", SOUND),
    Case("sound without a rate", input_file("in.wav", wav((1, 1, 0, 0, 2, 16))), "rate of 0", SOUND),
    Case("sound of 7 bits", input_file("in.wav", wav((1, 1, 16000, 0, 1, 7))), "7 bits", SOUND),
    Case("sound whose frame lies", input_file("in.wav", wav((1, 2, 16000, 0, 3, 16))), "3 bytes for 2 channels", SOUND),
    Case("sound without fmt", input_file("in.wav", wav((1, 1, 16000, 0, 2, 16), chunk=b"junk")), "how many channels", SOUND),
    Case("sound of RF64", input_file("in.wav", wav((1, 1, 16000, 0, 2, 16), magic=b"RF64")), "RF64", SOUND),
    Case("sound that is not finite", input_file("in.wav", wav((3, 1, 16000, 0, 4, 32), struct.pack("<f", float("nan")))), "not finite", SOUND),
    Case("task with escapes", lambda f: None, "no task '\\x1b[2J'", ("--task", "\x1b[2J")),
]  # fmt: skip


def test_the_bundle_that_is_spoiled_below_is_good(runner: Path, good: Path):
    done = said(runner, good, "--golden")
    assert done.returncode == 0 and b'"passed": true' in done.stdout, done.stderr


def listed(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.lstat().st_mtime_ns for p in folder.rglob("*")}


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_a_hostile_bundle_ends_in_one_line(runner: Path, good: Path, tmp_path: Path, case: Case, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "b"
    shutil.copytree(good, folder)
    case.spoil(folder)
    before = listed(tmp_path)
    done = said(runner, folder, *case.more)
    line = done.stderr.decode()  # strictly UTF-8
    with capsys.disabled():
        print(f"\n{case.name}: exit {done.returncode}, {line.strip()[:150]}", end="")
    assert done.returncode == 2 and line.startswith("error: ") and line.endswith("\n") and line.count("\n") == 1 and len(line) < 2200
    assert not [c for c in line[:-1] if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs")]
    assert case.says in line
    assert not done.stdout and listed(tmp_path) == before


@pytest.mark.parametrize("what", ["near of bytes", "probe without axes", "probe of no calls"])
def test_golden_answers_that_lie_about_spikes_are_a_difference_and_no_crash(runner: Path, good: Path, tmp_path: Path, what: str):
    """The runner compares spikes with positions that the golden file names: it must not believe their types and shapes."""
    folder = tmp_path / "b"
    shutil.copytree(good, folder)
    data = manifest()
    data["graphs"]["main"]["probes"] = ["z"]
    (folder / "m.onnx").write_bytes(graph([helper.make_node("Mul", ["x", "level"], ["z"]), helper.make_node("Identity", ["z"], ["x_next"])]))
    probes = np.zeros((2, 2, 4), np.uint8) if what == "near of bytes" else np.zeros((), np.uint8) if "axes" in what else np.zeros((0, 2, 4), np.uint8)
    golden(probes__z=probes, near__z=np.ones(3, np.uint8), outputs__x=np.ones((2, 4), np.float32), outputs__code=np.zeros(2, np.int64))(folder)
    seal(folder, data)
    done = said(runner, folder, "--golden")
    assert done.returncode == 1 and not done.stderr, done.stderr
    assert json.loads(done.stdout)["passed"] is False


def test_a_library_in_the_working_folder_is_not_loaded(runner: Path, good: Path, tmp_path: Path):
    """Python is asked where its ONNX Runtime lies; `python -c` alone would name what lies in the working folder."""
    (tmp_path / "onnxruntime" / "capi").mkdir(parents=True)
    (tmp_path / "onnxruntime" / "__init__.py").write_text("")
    (tmp_path / "onnxruntime" / "capi" / "libonnxruntime.so.9").write_bytes(b"not a library")
    env = {k: v for k, v in os.environ.items() if k != "EDGEKIT_ORT_LIBRARY"} | {"EDGEKIT_PYTHON": sys.executable}
    done = subprocess.run([runner, good, "--golden", "--threads", "1"], capture_output=True, check=False, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr


def test_a_draft_that_is_a_link_is_not_followed_and_a_device_is_not_replaced(runner: Path, good: Path, tmp_path: Path):
    np.save(tmp_path / "in.npy", np.ones((2, 4), np.float32))
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "out.npy.draft").symlink_to(tmp_path / "kept")
    folder = tmp_path / "b"
    shutil.copytree(good, folder)
    assert said(runner, folder, *X0).returncode == 0
    assert (tmp_path / "kept").read_text() == "kept" and np.load(tmp_path / "out.npy").shape == (2, 4)
    os.mkfifo(tmp_path / "pipe.npy")
    done = said(runner, folder, *X0[:2], "--output", "x=pipe.npy")
    assert done.returncode == 2 and b"no regular file" in done.stderr and (tmp_path / "pipe.npy").is_fifo()
