"""The spike engine beside ONNX Runtime and OpenVINO in INT8, on the same network and on the ANN that it was made from.

    python benchmarks/spike_engine.py NAME=RUN_FOLDER[/STAGE] ... > benchmarks/spike_engine.json          # a processor with AVX512-VNNI
    python benchmarks/spike_engine.py NAME=RUN_FOLDER[/STAGE] ... > benchmarks/spike_engine_avx2.json     # one with AVX2 alone

A RUN_FOLDER is what `edgekit train examples/iir_snn_cifar10.toml` and the like make. Batch 1, pinned to one core and to two; a process
holds all contenders (without VNNI also ANNs of 7-bit weights) and gives each in turn a block of test images, which rotate: the time of
sparse code depends on its input, and a branch predictor learns one image by heart. Every integer of the spike engine is compared with the
numpy reference.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ann_int8
import numpy as np

from edgekit import flow, registry, spiking_net
from edgekit.bundle import open_bundle
from edgekit.byte_products import saturate
from edgekit.checkpoint import open_checkpoint
from edgekit.layers import profile_layers
from edgekit.parts import Runtime
from edgekit.profile import device_name

# Processes, as where memory lies in one decides about 2 % of a small network; blocks a contender in each, images a block, runs before a
# block that are not counted.
PROCESSES, PASSES, BLOCK, WARM_UP = 5, 6, 100, 50
EXACT_IMAGES = 2000
KERNELS = Path(__file__).parent / ("spike_kernels_avx2.json" if saturate() else "spike_kernels.json")
ENGINES = ("onnxruntime", "openvino")


def main(named: list[str]) -> int:
    """Prints one JSON document."""
    rows = []
    for word in named:
        name, _, run = word.partition("=")
        with tempfile.TemporaryDirectory() as folder:
            rows.append({"network": name, **of_network(Path(run), Path(folder))})
        print(json.dumps({k: rows[-1][k] for k in ("network", "accuracy", "ratios")}), file=sys.stderr, flush=True)
    json.dump({
        "command": "python benchmarks/spike_engine.py NAME=RUN_FOLDER ...", "machine": device_name(), "threads": [1, 2],
        "limits": f"benchmarks/{KERNELS.name}",
        "processes": PROCESSES, "images_timed": PROCESSES * PASSES * BLOCK, "networks": rows,
    }, sys.stdout, indent=1)  # fmt: skip
    print()
    return 0


def of_network(run: Path, folder: Path) -> dict[str, Any]:
    """Accuracies, wrong integers, rates, layers and times of one network and its twins."""
    from edgekit.models._iir_snn_options import build, images_of, options_of

    stage = run if (run / "checkpoint.json").is_file() else run / "train" / json.loads((run / "train" / "result.json").read_text())["deploy"]
    facts = open_checkpoint(stage).facts
    options = options_of(facts["recipe"])
    data = images_of(options)
    ann = build(options, data, spiking=False)
    source = open_checkpoint(stage.parent / "ann")
    ann.load_state_dict(source.state())
    for form in ann_int8.FORMS:
        model = folder / f"ann_{form}.onnx"
        model.write_bytes(ann_int8.quantised(ann.eval(), data.validation_images, data.pixel_offset, form))
        flow.export(str(model), "onnx", folder / f"ann-{form}")
    flow.export(stage, "onnx-spike:int8", folder / "snn")
    spike = flow.export(stage, "spike:int8", folder / "spike")
    images, labels = data.test_images, data.test_labels
    np.savez(folder / "images.npz", images=images[:EXACT_IMAGES])
    net = spiking_net.load(spike.graph())
    spikes: dict[str, int] = {}
    wrong = right = 0
    with registry.find(Runtime, "spike").open(spike, probes=True) as session:
        for at in range(0, len(images), 50):
            expected, got = spiking_net.simulate(net, images[at : at + 50]), session.run({"image": images[at : at + 50]})
            wrong += sum(int((got[n].astype(np.float64) != v.astype(np.float64)).sum()) for n, v in expected.items())
            right += int((got["logits"].argmax(1) == labels[at : at + 50]).sum())
            for n, v in expected.items():
                spikes[n] = spikes.get(n, 0) + int(v.sum(dtype=np.int64)) if n != "logits" else 0
    sizes = {p.name: int(np.prod(p.shape)) * len(images) for p in net.populations if p.spiking}
    accuracy = {"ann_f32": float(source.facts["row"]["score"]), "snn_f32": float(facts["row"]["score"]), "snn_int8": right / len(images)}
    accuracy |= {f"ann_int8_{form}": ann_accuracy(folder / f"ann-{form}", images, labels) for form in ann_int8.FORMS}
    times = {str(threads): timed(folder, threads) for threads in (1, 2)}
    return {
        "recipe": facts["recipe"], "stage": stage.name, "test_images": len(images), "wrong_integers": wrong,
        "accuracy": accuracy,
        "rates": {n: round(spikes[n] / sizes[n], 4) for n in sizes}, "times_us": times,
        "ratios": {threads: ratios(rows) for threads, rows in times.items()},
        "layers": layers(folder / "spike"),
    }  # fmt: skip


def ann_accuracy(folder: Path, images: np.ndarray, labels: np.ndarray) -> float:
    """Of the INT8 twin, on ONNX Runtime."""
    with registry.find(Runtime, "onnxruntime").open(open_bundle(folder)) as session:
        right = sum(int(session.run({"image": images[i : i + 1]})["logits"].argmax() == labels[i]) for i in range(len(images)))
    return round(right / len(images), 4)


def ratios(rows: dict[str, dict[str, float]]) -> dict[str, float]:
    """p50 of the fastest INT8 ANN, and of the fastest other engine on the same SNN, over that of the spike engine."""
    mine = rows["spike"]["p50"]
    return {f"{kind}_over_spike": round(min(v["p50"] for k, v in rows.items() if k.startswith(kind)) / mine, 2) for kind in ("ann", "snn")}


def layers(folder: Path) -> list[dict[str, Any]]:
    """The engine's own table, beside what products and events reach at most here (benchmarks/spike_kernels.py)."""
    found = profile_layers(open_bundle(folder), "spike", 1)
    limits = json.loads(KERNELS.read_text())
    most = {"dense": 2 * limits["dot_peak_gmac_s"], "events": limits["event_peak_gadd_s"]}  # in 10^9 operations a second, as Layer.gops
    rows = []
    for x in found.layers:
        limit = round(x.gops / most[x.kernel], 3) if x.gops and x.kernel in most else None
        rows.append({"name": x.name, "way": x.kernel, "inputs": x.operator, "us": round(x.time_us, 2), "share_of_time": round(x.share, 3),
                     "share_of_limit": limit})  # fmt: skip
    return rows


def timed(folder: Path, threads: int) -> dict[str, dict[str, float]]:
    """Medians over the processes."""
    each = [in_a_process(folder, threads) for _ in range(PROCESSES)]
    return {n: {k: round(float(np.median([one[n][k] for one in each])), 2) for k in row} for n, row in each[0].items()}


def in_a_process(folder: Path, threads: int) -> dict[str, dict[str, float]]:
    """p50, p90 and minimum of each contender in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--time", str(folder), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def time_all(folder: Path, threads: int) -> dict[str, dict[str, float]]:
    """p50, p90 and minimum of each contender, in microseconds."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    images = np.load(folder / "images.npz")["images"]
    contenders: dict[str, tuple[str, Path]] = {"spike": ("spike", folder / "spike")}
    for engine in ENGINES:
        contenders |= {f"ann {form} {engine}": (engine, folder / f"ann-{form}") for form in ann_int8.FORMS}
        contenders[f"snn {engine}"] = (engine, folder / "snn")
    runs: dict[str, tuple[Callable[[], None], np.ndarray]] = {}
    opened = []
    for name, (engine, bundle) in contenders.items():
        session = registry.find(Runtime, engine).open(open_bundle(bundle), threads=threads)
        opened.append(session)
        buffer = np.ascontiguousarray(images[:1])
        runs[name] = (session.__enter__().bind({"image": buffer}), buffer)
    times: dict[str, list[float]] = {name: [] for name in runs}
    rng = np.random.default_rng(0)
    for _ in range(PASSES):
        for name, (once, buffer) in runs.items():
            order = rng.integers(0, len(images), WARM_UP + BLOCK)
            for i, image in enumerate(order):
                np.copyto(buffer, images[image : image + 1])
                start = time.perf_counter_ns()
                once()
                taken = time.perf_counter_ns() - start
                if i >= WARM_UP:
                    times[name].append(taken / 1e3)
    return {n: {"min": round(min(t), 2), "p50": round(float(np.median(t)), 2), "p90": round(float(np.quantile(t, 0.9)), 2)} for n, t in times.items()}


if __name__ == "__main__":
    if sys.argv[1] == "--time":
        print(json.dumps(time_all(Path(sys.argv[2]), int(sys.argv[3]))))
    else:
        sys.exit(main(sys.argv[1:]))
