"""Seeded mutation fuzzing of everything that Python reads of strangers: `python tests/fuzz_python.py --executions 100000 [TARGET ...]`.

Whatever the bytes, a reader gives an answer or raises EdgekitError; any other exception is a finding, printed with its input's number.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import copy
import dataclasses
import io
import json
import random
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edgekit import files, onnx_checks, recipe, registry, target, untrusted, untrusted_archive, wire
from edgekit.bundle import Golden
from edgekit.errors import EdgekitError
from edgekit.intake import Wishes, plan
from edgekit.intake_onnx import _put_plainly, _signature
from edgekit.manifest import Allowed, GoldenNote, GraphFile, Lineage, Manifest, Model, TaskProgram, read_manifest
from edgekit.parts import Family
from edgekit.program import (
    Affine,
    ArgMax,
    Clamp,
    Feed,
    Join,
    Phase,
    Program,
    State,
    Stream,
    Term,
    noise,
    row,
    tensor,
    value,
)
from edgekit.program_check import check, check_same_share
from edgekit.program_file import read_program
from edgekit.signature import Signature, Tensor
from edgekit.text_file import parse_json

ROOT = Path(__file__).parent.parent
PLACE = "fuzzed"  # what errors say
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 10**6, 2**31, -(2**31), 2**63, 2**64, 10**30, 0.5, -0.0, 1e308, "", "x", "u", "batch", "float32", "int64", "zeros", "steps",
    "../x", "/etc/passwd", "\0", "\x1b[2J", "\u202e", "\ud800", "__class__", "NaN", "a" * 300, [], {}, [[]], [1, 2], {"x": 1}, ["x", "x"], [[[[[[]]]]]],
)  # fmt: skip
TOKENS = (b"[", b"]", b"{", b"}", b'"', b",", b":", b"\0", b"\xff", b"\x1b[2J", b"-1", b"1e999", b"NaN", b"Infinity", b"99999999999999999999", b"[" * 3000,
          b'{"a":' * 2000, b"\\ud800", b"\xed\xa0\x80", b"\r\n", b"=", b"'''", b"\"\"\"", b"a." * 3000, b"1" * 5000, b"0x", b"inf", b"nan",
          b"2026-01-01T00:00:00Z", b"#", b"[[a]]\n", b"\xef\xbb\xbf")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Target:
    """What is read, from what it begins, and a way to mutate that keeps the outside whole, where the bytes have one."""

    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    inside: Callable[[int, random.Random], bytes] | None = None  # (number of the seed) -> a mutated file


def mutated_bytes(raw: bytes, rng: random.Random) -> bytes:
    made = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at, size = rng.randrange(len(made) + 1), rng.choice((1, 1, 2, 4, 8, 40))
        how = rng.randrange(7)
        if how == 0 and at < len(made):
            made[at] ^= 1 << rng.randrange(8)
        elif how == 1 and at < len(made):
            made[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif how == 2:
            del made[at : at + size]
        elif how == 3:
            made[at:at] = rng.choice(TOKENS)
        elif how == 4:
            other = rng.randrange(len(made) + 1)
            made[at:at] = made[other : other + size]
        elif how == 5:
            made[at : at + 8] = struct.pack("<Q", rng.choice((0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, rng.randrange(2**64))))
        else:
            del made[at:]
    return bytes(made)


def mutated_json(data: Any, rng: random.Random) -> Any:
    data = copy.deepcopy(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = [(data, None)]
        nodes = []
        while places:
            node, _parent = places.pop()
            keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
            for k in keys:
                nodes.append((node, k))
                places.append((node[k], node))
        if not nodes:
            return rng.choice(VALUES)
        (node, key), (other, other_key) = rng.choice(nodes), rng.choice(nodes)
        how = rng.randrange(6)
        if how == 0:
            node[key] = copy.deepcopy(rng.choice(VALUES))
        elif how == 1:
            del node[key]
        elif how == 2:
            node[key] = copy.deepcopy(other[other_key])
        elif how == 3 and isinstance(node, dict):
            node[rng.choice(("x", "", "extra", "../up", "\x1b", "file"))] = copy.deepcopy(rng.choice(VALUES))
        elif how == 4 and isinstance(node, dict):
            node[str(other_key)] = node.pop(key)
        elif isinstance(node[key], int | float):
            node[key] = rng.choice((node[key] + 1, -node[key], node[key] * 2**40, 0))
        else:
            node[key] = [copy.deepcopy(node[key])] * rng.choice((1, 2, 100))
    return data


# --- seeds and readers ---
def _program() -> Program:
    phase = Phase("g", "steps", 3, inputs={"x": value("x"), "u": value("u"), "k": tensor("k"), "r": row("rows")},
                  states={"u": State("float32", ("batch", 2))}, carry={"u_next": "u"}, collect={"path": "u"},
                  epilogue=(Affine((Term(value("u"), 0.5), Term(noise(1), row("rows"))), "u"), Clamp(value("u"), -1, 1, "c"), ArgMax(value("u"), -1, "a")))  # fmt: skip
    return Program((phase,), seed=7)


def _stream() -> Program:
    inner = Phase("g", "once", inputs={"x": value("x"), "u": value("u"), "k": tensor("k"), "r": tensor("k")}, outputs={"v": "y"}, carry={"u_next": "u"})
    return Program((Stream({"x": Feed(0)}, (inner,), {"y": Join("stack", 0)}, {"u": State("float32", ("batch", 2))}, "drop"),))


STEP = Signature((Tensor("x", "float32", ("batch", 2)), Tensor("u", "float32", ("batch", 2)), Tensor("k", "float32", (1,)), Tensor("r", "float32", (1,))),
                 (Tensor("u_next", "float32", ("batch", 2)), Tensor("v", "float32", ("batch", 2))))  # fmt: skip
STREAMED = Signature((Tensor("x", "float32", ("steps", "batch", 2)),), (Tensor("y", "float32", ("steps", "batch", 2)),))
TENSORS = {"k": np.ones(1, np.float32), "rows": np.ones((3, 1), np.float32)}


def _manifests() -> tuple[bytes, ...]:
    whole = Signature((Tensor("x", "float32", ("batch", 2)),), (Tensor("u", "float32", ("batch", 2)), Tensor("a", "int64", ("batch",))))
    said = Tensor("w", "int32", ("batch", 2), "words", (2, 3), 0, (("red", "blue"), ("round", "flat")))
    words = Signature((Tensor("x", "float32", ("steps", "batch", 2), rate_hz=16000), said), (Tensor("y", "float32", ("steps", "batch", 2)),))
    first = Manifest("toy", "onnx", "f32", whole, {"g": GraphFile("g.onnx", STEP, ("p",))}, _program(), GoldenNote("by hand", "seed 0"),
                     Model("toy", {"a": 1}, "0" * 64, "accuracy", 0.9, 10, 1), Allowed({"u": 1e-5}, same_share={"a": 0.9}), Lineage("toy", "0" * 64, {"o": 1}, {"t": "1"}),
                     task="refine", tasks={"guess": TaskProgram(whole, _program(), Allowed({"u": 1.0}))}, files={"g.onnx": "0" * 64, "golden.safetensors": "0" * 64, "golden-guess.safetensors": "0" * 64})  # fmt: skip
    second = dataclasses.replace(first, signature=words, program=_stream(), tasks={}, task="", prepares=("voice",), allowed=Allowed({"y": 1.0}),
                                 files={"g.onnx": "0" * 64, "golden.safetensors": "0" * 64, "voice/bundle.json": "0" * 64})  # fmt: skip
    return tuple(files.canonical_json(m.to_json()).encode() for m in (first, second))


def _read_manifest(raw: bytes) -> None:
    manifest = read_manifest(parse_json(raw, PLACE), PLACE)
    graphs = {n: g.signature for n, g in manifest.graphs.items()}
    for p in (manifest, *manifest.tasks.values()):
        check(p.program, p.signature, graphs, TENSORS, PLACE)
        check_same_share(p.program, p.signature, p.allowed.same_share, PLACE)
    files.canonical_json(manifest.to_json())


def _read_program(raw: bytes) -> None:
    program = read_program(parse_json(raw, PLACE), PLACE)
    signature = STREAMED if program.stream else Signature(STEP.inputs[:1], (Tensor("u", "float32", ("batch", 2)),))
    check(program, signature, {"g": STEP}, TENSORS, PLACE)


def _as_json(seeds: tuple[bytes, ...]) -> Callable[[int, random.Random], bytes]:
    plain = [json.loads(raw) for raw in seeds]
    return lambda which, rng: json.dumps(mutated_json(plain[which], rng)).encode("utf-8", "surrogatepass")


class _File:
    """Bytes as a file that is there, in memory where the system has such a folder."""

    def __init__(self, suffix: str, stack: ExitStack) -> None:
        memory = Path("/dev/shm")
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)))
        self.path = self.folder / f"m{suffix}"

    def of(self, raw: bytes) -> Path:
        self.path.write_bytes(raw)
        return self.path


def _recipes(stack: ExitStack) -> Target:
    file, known = _File(".toml", stack), {}

    def read(raw: bytes) -> None:
        found = recipe.read(file.of(raw))
        if found.family not in known:
            try:
                known[found.family] = registry.load(Family, found.family).options()
            except EdgekitError:
                known[found.family] = None
        if known[found.family] is not None:
            recipe.fill(known[found.family], {k: v for k, v in found.values.items() if k != "deploy"}, PLACE)

    names = ("iir_snn_digits", "few_step_tiny", "tpgn_generated", "time_stepping_tiny", "stream_voice_tiny", "fvdm_tiny")
    return Target(read, tuple((ROOT / "examples" / f"{n}.toml").read_bytes() for n in names))


def _targets(stack: ExitStack) -> Target:
    file = _File(".toml", stack)
    seeds = tuple((ROOT / "targets" / f"{n}.toml").read_bytes() for n in ("raspberry_pi_5", "jetson_orin_nano", "host_x86_64"))
    return Target(lambda raw: target.load(file.of(raw)), seeds)


def _safetensors(stack: ExitStack) -> Target:
    file = _File(".safetensors", stack)
    files.save_tensors(file.path, {"inputs/x": np.ones((2, 3), np.float32), "outputs/y": np.zeros(0, np.int64), "exact/z": np.array(True)})
    seed = file.path.read_bytes()
    size = struct.unpack("<Q", seed[:8])[0]
    header = json.loads(seed[8 : 8 + size])

    def inside(which: int, rng: random.Random) -> bytes:
        made = json.dumps(mutated_json(header, rng)).replace("float32", rng.choice(("BF16", "F8_E4M3", "U64", "F32"))).encode("utf-8", "surrogatepass")
        return struct.pack("<Q", len(made)) + made + seed[8 + size :]

    return Target(lambda raw: Golden.load(file.of(raw)), (seed,), inside)


def _npz(stack: ExitStack) -> Target:
    file, seeds = _File(".npz", stack), []
    for save in (np.savez, np.savez_compressed):
        made = io.BytesIO()
        save(made, x=np.ones((2, 3), np.float32), labels=np.arange(2), s=np.array(1.5))
        seeds.append(made.getvalue())
    one = io.BytesIO()
    np.save(one, np.ones((2, 3), np.float32))

    def inside(which: int, rng: random.Random) -> bytes:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as packed:
            packed.writestr("x.npy", mutated_bytes(one.getvalue(), rng))
        return made.getvalue()

    return Target(lambda raw: untrusted_archive.read_npz(file.of(raw)), tuple(seeds), inside)


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
    file = _File(".onnx", stack)
    (file.folder / "w.bin").write_bytes(bytes(8))

    def read(raw: bytes) -> None:
        _, proto = untrusted.read_model(file.of(raw))
        _put_plainly(proto)
        plan(_signature(file.path, proto), Wishes(), {}, {})
        onnx_checks.first_random(proto)
        proto.SerializeToString(deterministic=True)

    return Target(read, _onnx_seeds(), _mutated_proto)


NUMBERS = (0, 1, -1, 2, 7, 99, 2**31 - 1, -(2**31), 2**62, -(2**63))
NAMES = ("", "x", "y", "w", "b", "n", "Add", "Relu", "Loop", "own", "f", "ai.onnx", "\x1b[0m", "a\0", "../w.bin", "w.bin", "-1", "location", "\u202e")


def _mutated_proto(which: int, rng: random.Random) -> bytes:
    """A model with some of its fields changed, dropped, said twice or taken from another place; the bytes around them are right."""
    import onnx

    proto = onnx.load_from_string(_SEEDS[which])
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


_PROGRAMS = tuple(json.dumps(p.to_json()).encode() for p in (_program(), _stream()))
TARGETS: dict[str, Callable[[ExitStack], Target]] = {
    "manifest": lambda _: Target(_read_manifest, _manifests(), _as_json(_manifests())),
    "program": lambda _: Target(_read_program, _PROGRAMS, _as_json(_PROGRAMS)),
    "recipe": _recipes,
    "target": _targets,
    "safetensors": _safetensors,
    "npz": _npz,
    "onnx": _onnx,
    "wire": lambda _: Target(lambda raw: wire.check_wire(raw, PLACE), _onnx_seeds()),
}  # fmt: skip


@dataclasses.dataclass
class Found:
    """What came of a target: how often it was taken, refused and broke; the first input of each way to break."""

    executions: int = 0
    taken: int = 0
    slowest: tuple[float, int] = (0.0, 0)  # processor seconds, number of the input
    crashes: dict[str, tuple[int, bytes, str]] = dataclasses.field(default_factory=dict)
    kinds: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


def fuzz(name: str, executions: int, seed: int = 0, first: int = 0) -> Found:
    """Run a target; input number i depends on name, seed and i alone, so that a finding can be run again by itself."""
    with ExitStack() as stack:
        return _fuzz(name, TARGETS[name](stack), range(first, first + executions), seed)


def _fuzz(name: str, it: Target, numbers: range, seed: int) -> Found:
    found = Found()
    for raw in it.seeds:
        it.read(raw)  # a seed that is refused would find nothing
    for i in numbers:
        rng = random.Random(f"{name}/{seed}/{i}")
        which = rng.randrange(len(it.seeds))
        raw = it.inside(which, rng) if it.inside is not None and rng.random() < 0.7 else mutated_bytes(it.seeds[which], rng)
        begun = time.process_time()  # of the processor: a busy machine is no finding
        try:
            it.read(raw)
            found.taken += 1
        except EdgekitError:
            pass
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
            found.kinds[kind] += 1
            found.crashes.setdefault(kind, (i, raw, traceback.format_exc(limit=-4)))
        found.executions += 1
        found.slowest = max(found.slowest, (time.process_time() - begun, i))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--executions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input: to run a finding again")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that are findings")
    asked = parser.parse_args()
    crashes = 0
    for name in asked.targets or TARGETS:
        begun = time.perf_counter()
        found = fuzz(name, asked.executions, asked.seed, asked.first)
        crashes += len(found.crashes)
        print(f"{name}: {found.executions:,} executions, {found.taken:,} taken, {len(found.crashes)} crashes, slowest {found.slowest[0]:.2f} s (number {found.slowest[1]}), "
              f"{time.perf_counter() - begun:.0f} s in all", flush=True)  # fmt: skip
        for kind, (number, raw, trace) in found.crashes.items():
            print(f"  {kind}, {found.kinds[kind]} times, first --seed {asked.seed} --first {number}\n{trace}", flush=True)
            if asked.keep:
                asked.keep.mkdir(parents=True, exist_ok=True)
                (asked.keep / f"{name}-{number}").write_bytes(raw)
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
