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
    while data["tasks"] and len(short(data)) > MOST_BYTES - 500:
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


def npy(value: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, value, version=version)
    return out.getvalue()


def wav(kind: int, channels: int, bits: int, data: bytes, extra: bytes = b"") -> bytes:
    size = channels * bits // 8
    fmt = struct.pack("<HHIIHH", kind, channels, 16000, 16000 * size, size, bits) + extra
    chunks = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"LIST\3\0\0\0abc\0data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


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
    for target, files in seeds.items():
        (options.out / target).mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            print(f"{target}/{name}: {len(data)} bytes")
            if len(data) <= MOST_BYTES:
                (options.out / target / name).write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
