"""Fuzz targets of what a bundle holds: manifest, program, safetensors; and arrays as an .npz."""

from __future__ import annotations

import dataclasses
import io
import json
import random
import struct
import zipfile
from contextlib import ExitStack
from typing import Any

import numpy as np
from fuzz_base import PLACE, File, Target, as_json, mutated_bytes, mutated_json

from edgekit import files, limits, untrusted_archive
from edgekit.bundle import Golden
from edgekit.errors import EdgekitError
from edgekit.manifest import Allowed, GoldenNote, GraphFile, Lineage, Manifest, Model, TaskProgram, read_manifest
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


def _parsed(raw: bytes) -> Any:
    """As a file of these bytes is: mutations of mutations grow to 100 MB."""
    if len(raw) > limits.MOST_TEXT_BYTES:
        raise EdgekitError("larger than any file that is read")
    return parse_json(raw, PLACE)


def _read_manifest(raw: bytes) -> None:
    manifest = read_manifest(_parsed(raw), PLACE)
    graphs = {n: g.signature for n, g in manifest.graphs.items()}
    for p in (manifest, *manifest.tasks.values()):
        check(p.program, p.signature, graphs, TENSORS, PLACE)
        check_same_share(p.program, p.signature, p.allowed.same_share, PLACE)
    files.canonical_json(manifest.to_json())


def _read_program(raw: bytes) -> None:
    program = read_program(_parsed(raw), PLACE)
    signature = STREAMED if program.stream else Signature(STEP.inputs[:1], (Tensor("u", "float32", ("batch", 2)),))
    check(program, signature, {"g": STEP}, TENSORS, PLACE)


def _safetensors(stack: ExitStack) -> Target:
    file = File(".safetensors", stack)
    files.save_tensors(file.path, {"inputs/x": np.ones((2, 3), np.float32), "outputs/y": np.zeros(0, np.int64), "exact/z": np.array(True)})
    seed = file.path.read_bytes()
    size = struct.unpack("<Q", seed[:8])[0]
    header = json.loads(seed[8 : 8 + size])

    def inside(which: int, rng: random.Random) -> bytes:
        made = json.dumps(mutated_json(header, rng)).replace("float32", rng.choice(("BF16", "F8_E4M3", "U64", "F32"))).encode("utf-8", "surrogatepass")
        return struct.pack("<Q", len(made)) + made + seed[8 + size :]

    return Target(lambda raw: Golden.load(file.of(raw)), (seed,), inside)


def _npz(stack: ExitStack) -> Target:
    file, seeds = File(".npz", stack), []
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


_PROGRAMS = tuple(json.dumps(p.to_json()).encode() for p in (_program(), _stream()))
TARGETS = {
    "manifest": lambda _: Target(_read_manifest, _manifests(), as_json(_manifests())),
    "program": lambda _: Target(_read_program, _PROGRAMS, as_json(_PROGRAMS)),
    "safetensors": _safetensors,
    "npz": _npz,
}
