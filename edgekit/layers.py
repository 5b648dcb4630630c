"""Where the time of one inference goes, layer by layer, measured in a fresh process and held against this machine's roof.

The process is `python -m edgekit.layers BUNDLE RUNTIME THREADS [TASK]`; nothing is stored.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterable

import numpy as np

from edgekit import own_process, registry
from edgekit.bundle import Bundle, open_bundle
from edgekit.counting import one_sample
from edgekit.errors import EdgekitError
from edgekit.graph_times import by_graph
from edgekit.layer_profile import Layer, LayerProfile, Roof
from edgekit.parts import Runtime
from edgekit.profile_child import pin
from edgekit.recipe import fill
from edgekit.roofline.probe import probe

LIMIT_S = 600
SECONDS = 1.0  # of profiled runs
LEAST, MOST = 3, 500  # runs
WARM_UP = 10
ABOVE = 1.05  # of the roof: as much more is not the probe's own scatter


def profile_layers(bundle: Bundle, runtime: str, threads: int = 1) -> LayerProfile:
    """Profile a bundle by layer on an engine of this machine. threads: 1 = pinned to one core, 0 = all.

    EdgekitError when the engine gives no such profile, or the process fails.
    """
    arguments = [str(bundle.folder.absolute()), runtime, str(threads), *filter(None, [bundle.task])]
    told = own_process.ask("edgekit.layers", arguments, f"profiling the layers of {bundle.label} on {runtime}", LIMIT_S)
    found: LayerProfile = fill(LayerProfile, told, "profile by layer")
    measured = probe(threads)
    made = under(found, measured.roof)
    return dataclasses.replace(made, notes=(*made.notes, *filter(None, [measured.busy])))


def under(profile: LayerProfile, roof: Roof) -> LayerProfile:
    """The profile with its roof; layers that lie above it are named, since one of the two is then wrong, or a cache was at work."""
    notes = list(profile.notes)
    for layer in profile.layers:
        peak = roof.compute_gops.get(layer.precision)
        if layer.gops and peak and layer.gops > ABOVE * peak:
            told = f"{layer.name} reaches {layer.gops:.0f} GOP/s, more than the {peak:.0f} of the roof in {layer.precision}"
            notes.append(f"{told}: the roof was measured too low, or the kernel leaves operations out, as those on padding")
    fast = [layer for layer in profile.layers if layer.gb_s and layer.gb_s > ABOVE * roof.bandwidth_gb_s]
    if fast:
        most = max(layer.gb_s or 0.0 for layer in fast)
        notes.append(f"{len(fast)} layers move up to {most:.0f} GB/s, memory gives {roof.bandwidth_gb_s:.0f}: their data lie in caches")
    lacking = sorted({x.precision for x in profile.layers if x.operations and x.precision in ("f32", "f16", "bf16", "int8")} - set(roof.compute_gops))
    if lacking:
        notes.append(f"no roof was measured for {', '.join(lacking)}")
    return dataclasses.replace(profile, roof=roof, notes=tuple(notes))


def with_shares(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Each layer with its share of the sum of times."""
    rows = tuple(layers)
    total = sum(x.time_us for x in rows)
    return tuple(dataclasses.replace(x, share=x.time_us / total if total else 0.0) for x in rows)


def taken_us(once: Callable[[], None], runs: int) -> float:
    """The median of `runs` runs, in microseconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter_ns()
        once()
        times.append(time.perf_counter_ns() - start)
    return float(np.median(times)) / 1e3


def runs_for(once: Callable[[], None]) -> int:
    """As many runs as take about a second."""
    return max(LEAST, min(MOST, int(SECONDS * 1e6 / max(taken_us(once, 3), 1.0))))


def work(folder: str, runtime: str, threads: int, task: str = "") -> LayerProfile:
    """Profile in this process; without a roof."""
    bundle, part = open_bundle(folder).of_task(task), registry.find(Runtime, runtime)
    if type(part).layers is Runtime.layers:
        part.layers(bundle, {}, threads, 0)
    if threads == 1:
        pin()
    inputs = one_sample(bundle)
    with part.open(bundle, threads=threads) as session:
        once = session.bind(inputs)
        once()
        runs = runs_for(once)
        graphs, whole_us = by_graph(session, inputs, runs)
    return dataclasses.replace(part.layers(bundle, inputs, threads, runs), graphs=graphs, whole_us=whole_us)


def main(arguments: list[str]) -> int:
    """BUNDLE RUNTIME THREADS [TASK]; one JSON line on stdout."""
    folder, runtime, threads, *task = arguments
    try:
        found = work(folder, runtime, int(threads), *task)
    except EdgekitError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(dataclasses.asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
