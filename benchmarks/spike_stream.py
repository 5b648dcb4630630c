"""N-MNIST as a stream of event packets through the spike engine: every integer against numpy, events a second, and latency of a packet.

    python benchmarks/spike_stream.py RUN_FOLDER > benchmarks/spike_stream.json

RUN_FOLDER is what `edgekit train examples/iir_snn_nmnist.toml` makes. A packet holds the events of one time bin of one recording; no frame
is made of them. One pinned core; packets of all test recordings follow each other as they were recorded, with a reset between two.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from edgekit import flow, registry, stepped_net
from edgekit.events import load_frames
from edgekit.parts import Runtime
from edgekit.profile import device_name

PASSES, WARM_UP = 10, 200


def main(run: Path) -> int:
    """Prints one JSON document."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        bundle = flow.export(run, "spike:int8", Path(folder) / "b")
        assert bundle.manifest.model is not None and bundle.manifest.model.steps is not None
        net = stepped_net.load(bundle.graph())
        frames, labels = load_frames("test", bundle.manifest.model.steps)
        packets = [[np.repeat(np.arange(f.size, dtype=np.uint32), f.ravel()) for f in sample] for sample in frames]
        wrong = right = 0
        with registry.find(Runtime, "spike").open(bundle, probes=True) as session:
            for sample, x, label in zip(packets, frames, labels, strict=True):
                expected = stepped_net.simulate(net, x[None], len(sample))
                session.begin({})
                for t, packet in enumerate(sample):
                    got = session.push_events(packet)
                    wrong += sum(int((got[n][0] != expected[n][t]).sum()) for n in net.neurons)
                    wrong += int((got["logits"][0, 0] != expected["logits"][0, t]).sum())
                right += int(got["logits"].argmax() == label)
        times, events = timed(bundle, packets)
    microseconds = np.array(times) / 1e3
    quantiles = {f"p{q:g}": round(float(np.percentile(microseconds, q)), 2) for q in (50, 90, 99, 99.9)}
    json.dump({
        "command": "python benchmarks/spike_stream.py RUN_FOLDER", "machine": device_name(), "network": bundle.manifest.name, "threads": 1,
        "recordings": len(packets), "packets_a_recording": len(packets[0]), "wrong_integers": wrong, "accuracy": right / len(packets),
        "accuracy_f32": bundle.manifest.model.score, "packets_timed": len(times), "events_a_packet": round(events / len(times), 1),
        "events_a_second": round(events / (sum(times) / 1e9)), "packet_us": {"min": round(float(microseconds.min()), 2), **quantiles},
    }, sys.stdout, indent=1)  # fmt: skip
    print()
    return 0


def timed(bundle, packets: list[list[np.ndarray]]) -> tuple[list[int], int]:  # type: ignore[no-untyped-def]
    """Nanoseconds of each packet, and events of all."""
    times: list[int] = []
    events = 0
    with registry.find(Runtime, "spike").open(bundle, threads=1) as session:
        bound = [[session.bind_events(p) for p in sample] for sample in packets]
        for n in range(WARM_UP):
            bound[n % len(bound)][0]()
        for _ in range(PASSES):
            for sample, once in zip(packets, bound, strict=True):
                session.begin({})
                for packet, push in zip(sample, once, strict=True):
                    start = time.perf_counter_ns()
                    push()
                    times.append(time.perf_counter_ns() - start)
                    events += len(packet)
    return times, events


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
