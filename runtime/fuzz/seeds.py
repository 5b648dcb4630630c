"""Write the small seeds of the fuzz targets: arrays, sounds and voices made here, manifests and programs of real bundles without their long texts.

    python runtime/fuzz/seeds.py BUNDLE... --out runtime/fuzz/corpus
"""

from __future__ import annotations

import argparse
import io
import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

MOST_BYTES = 4000  # of a seed: libFuzzer is told to stay below 4096
WITH_TASKS_BYTES = 2000  # of a manifest: above it, tasks are left out, since time goes with length
KINDS = {"BOOL": "bool", "U8": "uint8", "I8": "int8", "I32": "int32", "I64": "int64", "F16": "float16", "F32": "float32", "F64": "float64"}


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle with short hashes and without what its program does not need."""
    data: dict[str, Any] = json.loads((folder / "bundle.json").read_text())
    data |= {"lineage": {"step": "", "parent_sha256": "", "options": {}, "tools": {}}, "details": {}, "model": None}
    data["golden"] = {"answers_by": "", "inputs_from": ""}
    data["files"] = {n: "0" for n in data["files"] if "/" not in n or n.endswith("bundle.json")}
    for task in (data, *data["tasks"].values()):
        for port in task["signature"]["inputs"] + task["signature"]["outputs"]:
            port["meaning"] = ""
    for graph in data["graphs"].values():
        for port in graph["inputs"] + graph["outputs"]:
            port["meaning"] = ""
        graph["probes"] = graph["probes"][:2]
    while data["tasks"] and len(short(data)) > WITH_TASKS_BYTES:
        gone = data["tasks"].popitem()[0]
        data["files"] = {n: h for n, h in data["files"].items() if f"golden-{gone}" not in n}
    return data


def short(data: object) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()


def tensors_of(folder: Path, program: str) -> dict[str, Any]:
    """Dtype and shape of the tensors that the program's text names."""
    if not (folder / "tensors.safetensors").is_file():
        return {}
    with safe_open(folder / "tensors.safetensors", "numpy") as f:
        slices = {name: f.get_slice(name) for name in f.keys() if f'"{name}"' in program}  # noqa: SIM118
        return {name: [KINDS[s.get_dtype()], s.get_shape()] for name, s in slices.items()}


def made_up() -> dict[str, Any]:
    """A manifest of what the bundles above have little of: every operation, noise of both kinds, a stream between phases, a task."""

    def port(name: str, *shape: object, dtype: str = "float32", **more: object) -> dict[str, Any]:
        return {"name": name, "dtype": dtype, "shape": list(shape), "meaning": "", **more}

    def phase(**more: object) -> dict[str, Any]:
        empty = {"states": {}, "inputs": {}, "outputs": {}, "carry": {}, "epilogue": [], "collect": {}}
        return {"run": "once", "steps": 1, "graph": "g", **empty, **more}

    value, noise = {"value": "x"}, {"noise": "normal", "id": 1, "calls": 0}
    affine = {"op": "affine", "terms": [{"of": value, "by": 0.5}, {"of": noise, "by": {"row": "k"}}, {"of": value, "by": {"tensor": "t"}}], "to": "x"}
    clamp, argmax = {"op": "clamp", "of": value, "low": -1.0, "high": 1.0, "to": "x"}, {"op": "argmax", "of": value, "axis": -1, "to": "c"}
    state = {"x": {"dtype": "float32", "shape": ["n", 3], "initial": {"noise": "uniform", "id": 2, "calls": 0}}}
    steps = phase(run="steps", steps=2, states=state, inputs={"a": value}, carry={"b": "x"}, epilogue=[affine, clamp, argmax], collect={"all": "x"})
    stream = {"run": "stream", "feeds": {"s": {"axis": 1, "window": 3, "hop": 2}, "i": {"axis": 1, "window": None, "hop": None}}, "tail": "pad",
              "states": {"h": {"dtype": "float32", "shape": ["n", 3], "initial": {"zeros": True}}},
              "phases": [phase(inputs={"a": {"value": "s"}}, outputs={"b": "y"}), phase(inputs={"a": {"value": "h"}}, carry={"b": "h"})],
              "joins": {"y": {"axis": 1, "how": "concat", "delay": 1}}}  # fmt: skip
    allowed = {"output_max_abs": {"y": 1e-3}, "near_threshold": 0, "score_drop": 0, "exact": False, "sqnr_db": {}, "same_share": {}}
    inputs = [port("s", "n", "t", rate_hz=8), port("i", "n", "t", 1, dtype="int32", categories=[3], words=[["a", "b", "c"]])]
    task = {"signature": {"inputs": [port("o", "n", 3)], "outputs": [port("all", 2, "n", 3), port("c", "n", dtype="int64")]},
            "program": {"seed": 1, "phases": [steps]}, "allowed": allowed | {"same_share": {"c": 0.5}}}  # fmt: skip
    return {
        "format_version": 4, "name": "m", "format": "onnx", "variant": "", "precision": "f32",
        "signature": {"inputs": inputs, "outputs": [port("y", "n", "u"), port("h", "n", 3)]},
        "graphs": {"g": {"file": "g", "inputs": [port("a", "n", 3)], "outputs": [port("b", "n", 3)], "probes": []}},
        "program": {"seed": 0, "phases": [stream]}, "golden": {}, "model": None, "allowed": allowed, "lineage": {}, "details": {}, "prepares": [],
        "task": "own", "tasks": {"other": task}, "files": {"g": "0", "golden-other.safetensors": "0"},
    }  # fmt: skip


def npy(value: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, value, version=version)
    return out.getvalue()


def wav(kind: int, channels: int, bits: int, data: bytes, extra: bytes = b"") -> bytes:
    size = channels * bits // 8
    fmt = struct.pack("<HHIIHH", kind, channels, 16000, 16000 * size, size, bits) + extra
    chunks = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"LIST\3\0\0\0abc\0data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def spiking(stepped: bool = False) -> bytes:
    """A strided convolution, pooled synapses from two sources, and a dense read-out; with membranes, or without."""
    rng = np.random.default_rng(1)

    def population(name: str, shape: list[int], threshold: int | None, *synapses: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "shape": shape, "threshold": threshold, "synapses": list(synapses)}

    def synapse(source: str, kind: str = "conv", stride: int = 1, padding: int = 0, pool: int = 1) -> dict[str, Any]:
        return {"source": source, "kind": kind, "groups": 1, "stride": [stride] * 2, "padding": [padding] * 2, "dilation": [1, 1], "pool": [pool] * 2}

    head = {"input_shape": [2, 4, 4], "input_offset": 0, "input_scale": 1.0, "input_range": [0, 255], "readout_scale": 0.5, "populations": [
        population("a", [3, 2, 2], 9, synapse("input", stride=2, padding=1)),
        population("b", [2, 2, 2], 1, synapse("a", padding=1), synapse("input", pool=2, padding=1)),
        population("out", [3], None, synapse("b", "dense")),
    ], "neurons": {"a": {"leak": 3000, "reset": "soft"}, "b": {"leak": 0, "reset": "hard"}} if stepped else {}}  # fmt: skip
    weights = {"a/0": (3, 2, 3, 3), "b/0": (2, 3, 3, 3), "b/1": (2, 2, 3, 3), "out/0": (3, 8)}
    arrays = {f"{n}/weight": rng.integers(-9, 9, shape).astype(np.int8) for n, shape in weights.items()}
    arrays |= {f"{name}/bias": np.arange(channels, dtype=np.int32) for name, channels in (("a", 3), ("b", 2), ("out", 3))}
    if stepped:
        arrays |= {"a/threshold": np.array([5, 6, 7], np.int32), "b/threshold": np.array([1, -2], np.int32)}
    return save(arrays, metadata={"spiking_net": json.dumps(head)})


def made_here() -> dict[str, dict[str, bytes]]:
    """Target -> name -> bytes."""
    rng = np.random.default_rng(0)
    some = {k: np.ones((1, 2), k) for k in KINDS.values()}
    sound = rng.integers(-9000, 9000, 20).astype("<i2")
    checkpoint = {"edgekit_voice_of": "0123456789abcdef"}
    return {
        "json": {"values": short([1, 2.5, -3, True, None, "x", {"a": {}, "b": []}]), "empty": b"{}", "escapes": rb'{"\u00e9\n":"\ud83d\ude00"}'},
        "safetensors": {
            "one": save({"a": np.arange(6, dtype=np.float32).reshape(2, 3)}, metadata={"of": "x"}), "kinds": save(some),
            "sizes": save({"e": np.zeros((0, 4), np.float32), "s": np.array(3.0, np.float64)}),
        },
        "npy": {"v1": npy(np.arange(6, dtype=np.float32).reshape(2, 3)), "v2": npy(np.arange(3), (2, 0)), "scalar": npy(np.array(1.0)),
                "fortran": npy(np.asfortranarray(np.ones((2, 3), np.uint8))), "empty": npy(np.zeros((0, 3), np.float16)),
                "record": npy(np.zeros(2, [("a", "<i4"), ("b", "<f4", (2,))]))},
        "wav": {"pcm16": wav(1, 1, 16, sound.tobytes()), "stereo24": wav(1, 2, 24, bytes(range(24))), "pcm8": wav(1, 1, 8, bytes(range(9))),
                "float": wav(3, 1, 32, rng.normal(size=8).astype("<f4").tobytes()), "pcm32": wav(1, 1, 32, bytes(range(16))),
                "extensible": wav(0xFFFE, 1, 16, sound.tobytes(), struct.pack("<HHIH14x", 22, 16, 4, 1)),
                "cut": wav(1, 1, 16, sound.tobytes())[:-7]},
        "spike": {"net": spiking(), "wrong": spiking().replace(b'stride\\": [2, 2]', b'stride\\": [1, 2]', 1), "cut": spiking()[:-9],
                  "steps": spiking(True)},
        "voice": {"good": save({"voice": np.ones((1, 4), np.float32)}, metadata=checkpoint),
                  "other": save({"voice": np.ones((1, 4), np.float32)}, metadata={"edgekit_voice_of": "ffff"}),
                  "more": save({"voice": np.ones((1, 4), np.float32), "x": np.ones(1, np.uint8)}, metadata=checkpoint)},
    }  # fmt: skip


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(words)
    seeds = made_here() | {"manifest": {}, "program": {}}
    for folder in options.bundles:
        manifest = manifest_of(folder)
        name = f"{manifest['name']}{len(seeds['manifest'])}"
        seeds["manifest"][name] = short(manifest)
        whole = short({"manifest": manifest, "tensors": tensors_of(folder, short(manifest).decode())})
        seeds["program"][name] = whole
    seeds["manifest"]["made_up"] = short(made_up())
    for own in (True, False):  # its stream, and its task as a program of its own
        data = made_up()
        if not own:
            data |= data["tasks"].pop("other") | {"task": ""}
        tensors = {"k": ["float32", [2, 1]], "t": ["float32", [3]]}
        seeds["program"][f"made_up{'' if own else '_steps'}"] = short({"manifest": data, "tensors": tensors})
    for target, files in seeds.items():
        (options.out / target).mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            print(f"{target}/{name}: {len(data)} bytes")
            if len(data) <= MOST_BYTES:
                (options.out / target / name).write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
