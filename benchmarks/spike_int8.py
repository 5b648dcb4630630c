"""Spike-exact INT8 on test images: wrong integers in each engine, with VNNI and without, and latency beside float.

    python benchmarks/spike_int8.py RUN_FOLDER > benchmarks/spike_int8.json

RUN_FOLDER holds a trained one-timestep network, as from `edgekit train examples/iir_snn_cifar10.toml`. Without VNNI:
OpenVINO with oneDNN told to use AVX2 or AVX-512 without it; ONNX Runtime in the C++ runner under qemu-x86_64 as a Haswell.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from edgekit import examine, files, flow, registry, spiking_net
from edgekit.bundle import Bundle, open_bundle
from edgekit.parts import Runtime
from edgekit.process_run import Request
from edgekit.profile import device_name
from edgekit.task import task_of

IMAGES = 2000
EMULATED = 2000
BATCH = 100


def main(run: Path) -> int:
    """Prints one JSON document."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = flow.export(run, "onnx-spike:int8", Path(folder) / "spike")
        exact = [count(bundle, engine, {}) for engine in ("onnxruntime", "openvino")]
        exact += [count(bundle, "openvino", {"ONEDNN_MAX_CPU_ISA": isa}) for isa in ("AVX2", "AVX512_CORE", "AVX2_VNNI")]
        exact += emulated(bundle, Path(folder))
        timed = [latency(f) for f in (flow.export(run, "onnx", Path(folder) / "f32"), bundle)]
        scores = {name: examine.verify(bundle, name).score for name in ("onnxruntime", "openvino")}
        json.dump({
            "command": "python benchmarks/spike_int8.py RUN_FOLDER", "network": bundle.manifest.name, "machine": device_name(),
            "integer_layers": bundle.manifest.details["integer_layers"], "score": scores,
            "score_float": bundle.manifest.model.score if bundle.manifest.model else None, "exact": exact, "latency": timed,
        }, sys.stdout, indent=1)  # fmt: skip
    print()
    return 0


def count(bundle: Bundle, engine: str, environment: dict[str, str]) -> dict[str, object]:
    """In a process of its own: oneDNN reads its variable when it is loaded."""
    command = [sys.executable, __file__, "--count", str(bundle.folder), engine]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    return {"engine": engine, "set": environment, **json.loads(done.stdout.splitlines()[-1])}


def counted(folder: Path, engine: str) -> dict[str, object]:
    """Wrong values of all spikes and logits over IMAGES test images."""
    bundle = open_bundle(folder)
    net = spiking_net.load(folder / "integer_net.safetensors")
    assert bundle.manifest.model is not None
    pixels = task_of(bundle.manifest.model).held_out(bundle.manifest.model, IMAGES)["image"]
    wrong = total = 0
    with registry.find(Runtime, engine).open(bundle, probes=True) as session:
        for at in range(0, len(pixels), BATCH):
            expected = spiking_net.simulate(net, pixels[at : at + BATCH])
            got = session.run({"image": pixels[at : at + BATCH]})
            wrong += sum(int((got[n].astype(np.float64) != v).sum()) for n, v in expected.items())
            total += sum(v.size for v in expected.values())
    return {"images": len(pixels), "wrong": wrong, "of": total}


def emulated(bundle: Bundle, folder: Path) -> list[dict[str, object]]:
    """The C++ runner as a Haswell, which has AVX2 and no VNNI; nothing where qemu-x86_64 or the runner is not there."""
    from edgekit.runtimes._cpp_build import Variant, onnxruntime_folder, runner

    built, emulator = runner(Variant("native")), shutil.which("qemu-x86_64")
    if built is None or emulator is None:
        return []
    assert bundle.manifest.model is not None
    pixels = task_of(bundle.manifest.model).held_out(bundle.manifest.model, EMULATED)["image"]
    files.save_tensors(folder / "in.safetensors", {"image": pixels})
    library = next(onnxruntime_folder().glob("libonnxruntime.so*"))
    subprocess.run([emulator, "-cpu", "Haswell", str(built), str(bundle.folder), "--library", str(library), "--input",
                    str(folder / "in.safetensors"), "--output", str(folder / "out.safetensors")], check=True, capture_output=True)  # fmt: skip
    expected = spiking_net.simulate(spiking_net.load(bundle.folder / "integer_net.safetensors"), pixels)["logits"]
    got = files.load_tensors(folder / "out.safetensors")["logits"]
    return [{"engine": "onnxruntime, C++", "set": {"qemu-x86_64": "-cpu Haswell"}, "images": len(pixels), "wrong": int((got != expected).sum()),
             "of": expected.size}]  # fmt: skip


def latency(bundle: Bundle) -> dict[str, object]:
    """p50 and minimum of both engines, one pinned thread, batch 1."""
    row: dict[str, object] = {"bundle": bundle.label}
    for engine in ("onnxruntime", "openvino"):
        if not bundle.read_evidence(f"verify-{engine}"):
            examine.verify(bundle, engine, 0)
        found = examine.profile(bundle, Request(engine))
        row[engine] = {"latency_p50_ms": found.latency_p50_ms, "latency_min_ms": found.latency_min_ms, "verdict": found.verdict}
    return row


if __name__ == "__main__":
    if sys.argv[1] == "--count":
        print(json.dumps(counted(Path(sys.argv[2]), sys.argv[3])))
    else:
        sys.exit(main(Path(sys.argv[1])))
