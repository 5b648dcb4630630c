"""Where the time of one inference, or of one chunk of a stream, goes graph by graph: a clock around each call, no profiler of the engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from edgekit.execute import Execution
from edgekit.layer_profile import GraphTime
from edgekit.parts import Arrays, Graph, Session

WARM_UP = 10  # runs, at most


class TimedGraph(Graph):
    """A graph of any engine that notes how long each call takes."""

    def __init__(self, inner: Graph) -> None:
        self._inner = inner
        self.taken_ns: list[int] = []

    def bind(self, inputs: Arrays, outputs: Arrays) -> Callable[[], None]:
        call, taken, clock = self._inner.bind(inputs, outputs), self.taken_ns, time.perf_counter_ns

        def once() -> None:
            start = clock()
            call()
            taken.append(clock() - start)

        return once

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        start = time.perf_counter_ns()
        found = self._inner.run(inputs)
        self.taken_ns.append(time.perf_counter_ns() - start)
        return found

    def hold(self, states: Mapping[str, str]) -> bool:
        return self._inner.hold(states)

    def set_held(self, values: Arrays) -> None:
        self._inner.set_held(values)

    def held(self, name: str) -> np.ndarray:
        return self._inner.held(name)


def by_graph(session: Session, inputs: Arrays, runs: int) -> tuple[tuple[GraphTime, ...], float | None]:
    """(graphs in the order of the program, p50 of the whole in microseconds) over `runs` inferences of `inputs`, or pushes of one chunk.

    Graphs that run before or after a stream are left out. Nothing, and None, for a program of one graph and for an engine that runs
    programs in a process of its own.
    """
    if not isinstance(session, Execution):
        return (), None
    graphs = session.around_graphs(TimedGraph)
    if len(graphs) < 2:
        return (), None
    once = session.bind(inputs)
    for _ in range(min(WARM_UP, runs)):
        once()
    calls: dict[str, list[list[int]]] = {n: [] for n in graphs}
    whole = []
    for _ in range(runs):
        for graph in graphs.values():
            graph.taken_ns.clear()
        start = time.perf_counter_ns()
        once()
        whole.append(time.perf_counter_ns() - start)
        for name, graph in graphs.items():
            calls[name].append(list(graph.taken_ns))
    sums = {n: float(np.median([sum(c) for c in runs_of])) / 1e3 for n, runs_of in calls.items() if runs_of[-1]}
    total = sum(sums.values())
    found = tuple(
        GraphTime(n, len(calls[n][-1]), float(np.median(np.concatenate(calls[n]))) / 1e3, us, us / total if total else 0.0) for n, us in sums.items()
    )
    return found, float(np.median(whole)) / 1e3
