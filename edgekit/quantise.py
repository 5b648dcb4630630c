"""Trials of quantised forms of one bundle: built, run on samples held back from calibration, compared and timed.

Nothing here looks at test labels. How good a form is: the share of held-back samples whose answer stays that of the float
model, and the signal to quantisation noise ratio  SQNR = 10 log10(sum y^2 / sum (y - y')^2)  of each output, in dB; of a program that
decides, that of each graph alone (edgekit/quantise_graphs.py).
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import files, qdq, registry
from edgekit.bundle import Bundle, Manifest, new_bundle, open_bundle
from edgekit.decisions import decides, left_float
from edgekit.errors import EdgekitError
from edgekit.parts import Arrays, Runtime
from edgekit.prepares import completed, copy_prepares
from edgekit.program import Program
from edgekit.qdq import Choice
from edgekit.quantise_graphs import GraphTrial, JudgedGraph
from edgekit.record import MOST, record, spread
from edgekit.rounding import Kept
from edgekit.task import Task, task_of
from edgekit.verify import sqnr_db

SAMPLES = 500  # of the calibration data, every fifth and fourth of five held back
BATCH = 20
ROWS = 2000  # of the calls of a graph that ranges are taken from: a loop of ten steps would give ten times what one call does
NOTHING_KEPT = Kept()  # yet
JUDGED = 40  # calls of a graph that only other tasks run, by which it is judged
TIMED = 60  # calls of each form, in turns


@dataclass(frozen=True)
class Trial:
    """What a form did on the samples held back."""

    choice: Choice
    sqnr_db: float  # of the worst output; of a program that decides, of any graph; of graphs that only other tasks run, too
    same_answers: float | None  # share of samples; None where no output is a row of scores
    graphs: Mapping[str, GraphTrial] = field(default_factory=dict)  # of a program that decides, what each graph did

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)


class Trials:
    """Forms of `source` (a float ONNX bundle). Trials are kept in `cache`, so that a search goes on where it was stopped."""

    def __init__(self, source: Bundle, cache: Path | None = None) -> None:
        if source.manifest.model is None:
            raise EdgekitError(
                f"{source.folder} came without data to calibrate with; export the model again with --calibration FILE.npz"
            )
        self.source, self._cache_path = source, cache
        self.task: Task = task_of(source.manifest.model)
        samples = self.task.samples(source.manifest.model, SAMPLES)
        count = len(next(iter(samples.values())))
        if count < 10:
            raise EdgekitError(f"{count} samples are too few to calibrate with; give at least 10, better 300")
        held = np.arange(count) % 5 >= 3
        self.calibration = self._batches({n: v[~held] for n, v in samples.items()})
        self.held_back = self._batches({n: v[held] for n, v in samples.items()})
        self.left_float = left_float(source.manifest)
        several = len(source.manifest.graphs) > 1  # names of nodes are told apart across graphs, which each count from 0
        self._prefix = {n: f"{n}/" if several else "" for n in source.manifest.graphs if n not in self.left_float}
        self.models = {n: _named(qdq.prepared(source.graph(n).read_bytes()), p) for n, p in self._prefix.items()}
        self.untrained = _untrained(source.manifest, self.models, self._prefix)
        self.nodes = [(g, n) for g, m in self.models.items() for n in qdq.quantisable(m) if n not in self.untrained]
        around = (qdq.around_weights(m, self.untrained) for m in self.models.values())
        self.always_float = _state_nodes(self.models, source.manifest.program).union(self.untrained, *around)
        weighted = {n for _, n in self.nodes}
        self.weightless = {n.name for m in self.models.values() for n in m.graph.node} - weighted
        self._calls = self._recorded()
        self._ranges: dict[str, dict[str, Any]] = {}
        self.judged = self._judges(self.held_back) if decides(source.manifest) else {}
        # What the own program never runs is judged alone, on what other tasks give it: nothing else would say how good it is.
        seen = {p.graph for p in source.manifest.program.graph_phases()}
        self.elsewhere = {
            g: JudgedGraph(self.models[g], self._held_back_calls[g], self.untrained)
            for g in dict.fromkeys(g for g, _ in self.nodes) if g not in seen and self._held_back_calls.get(g)
        }  # fmt: skip
        self._graph_trials: dict[Any, GraphTrial] = {}
        self.expected = {} if self.judged else self.answers(source, self.held_back)
        self._kept: dict[str, Any] = json.loads(cache.read_text()) if cache is not None and cache.is_file() else {}

    def _recorded(self) -> dict[str, list[dict[str, np.ndarray]]]:
        """What each graph is given over the calibration samples, of all tasks: the ranges are those of all that the graphs do.

        Every fifth and fourth of five batches of the other tasks is held back, too."""
        model, each = self.source.manifest.model, MOST // (1 + len(self.source.manifest.tasks))  # the calls of all tasks together are no more
        assert model is not None
        found = record(self.source, self.calibration, each)
        self._held_back_calls: dict[str, list[dict[str, np.ndarray]]] = {}
        for name in self.source.manifest.tasks:
            view = self.source.of_task(name)
            batches = self._batches(dict(self.task.task_samples(model, name, SAMPLES)), view)
            held = [i for i in range(len(batches)) if i % 5 >= 3] or [len(batches) - 1]
            for graph, calls in record(view, [b for i, b in enumerate(batches) if i not in held or len(batches) == 1], each).items():
                found[graph] = found[graph] + calls
            for graph, calls in record(view, [batches[i] for i in held], JUDGED).items() if not self._run_by_own(view) else ():
                self._held_back_calls[graph] = self._held_back_calls.get(graph, []) + calls
        return {graph: spread(calls, max(ROWS // self._rows(graph, calls), 1)) for graph, calls in found.items()}

    def _run_by_own(self, view: Bundle) -> bool:
        """Whether the own program runs all graphs of a task that have something to quantise."""
        own = {p.graph for p in self.source.manifest.program.graph_phases()}
        return {p.graph for p in view.manifest.program.graph_phases()} & {g for g, _ in self.nodes} <= own

    def _rows(self, graph: str, calls: list[dict[str, np.ndarray]]) -> int:
        """The most samples that a call of the graph has."""
        free = [t.name for t in self.source.manifest.graphs[graph].signature.inputs if t.shape and isinstance(t.shape[0], str)]
        return max((len(call[name]) for call in calls for name in free), default=1)

    def _judges(self, batches: list[dict[str, np.ndarray]]) -> dict[str, JudgedGraph]:
        """The graphs that have something to quantise, with what the float program gives them over the batches."""
        calls = record(self.source, batches)
        return {g: JudgedGraph(self.models[g], calls[g], self.untrained) for g in dict.fromkeys(g for g, _ in self.nodes)}

    def ranges(self, choice: Choice) -> dict[str, Any]:
        """{graph: ranges of its activations}, computed once a method."""
        import copy

        if choice.method not in self._ranges:
            self._ranges[choice.method] = {n: qdq.ranges_of(m, self._calls[n], choice.method) for n, m in self.models.items()}
        found = copy.deepcopy(self._ranges[choice.method])  # the quantiser changes what it is given
        return {n: qdq.symmetric_ranges(r) for n, r in found.items()} if choice.activations == "s8" else found

    def graphs(self, choice: Choice) -> dict[str, Any]:
        """The Q/DQ graph of each graph that is not left in float."""
        return {n: self._graph(choice, n) for n in self.models}

    def _graph(self, choice: Choice, name: str) -> Any:
        kept = choice.without({*choice.floats, *self.always_float, *(self.weightless if choice.only_weights else ())})
        return qdq.quantised(self.models[name], self.ranges(choice)[name], kept)

    def write(self, choice: Choice, out: Path, manifest: Manifest, kept: Kept = NOTHING_KEPT) -> Bundle:
        """The bundle of a form, with the golden answers of `kept`."""
        manifest = dataclasses.replace(manifest, golden=kept.note(self.source), tasks=kept.task_programs(self.source))
        with new_bundle(out, manifest, kept.goldens(self.source), self.source.tensors(), kept.task_goldens(self.source), parent=self.source) as draft:
            for name, graph in self.graphs(choice).items():
                (draft / manifest.graphs[name].file).write_bytes(_unnamed(graph, self._prefix[name]).SerializeToString(deterministic=True))
            for name in self.left_float:
                (draft / manifest.graphs[name].file).write_bytes(self.source.graph(name).read_bytes())
            copy_prepares(self.source, manifest, draft)
        return open_bundle(out)

    def trial(self, choice: Choice) -> Trial:
        """Build and run a form, or remember."""
        key = files.hash_of({"bundle": self.source.sha256, **dataclasses.asdict(choice)})
        if key in self._kept:
            kept = self._kept[key]
            return Trial(choice, kept["sqnr_db"], kept["same_answers"], {g: GraphTrial(**t) for g, t in kept["graphs"].items()})
        found = self.by_graph(choice, self.judged) if self.judged else self._whole(choice)
        if self.elsewhere:
            apart = self.by_graph(choice, self.elsewhere)
            found = dataclasses.replace(found, sqnr_db=min(found.sqnr_db, apart.sqnr_db), graphs={**found.graphs, **apart.graphs})
        self._kept[key] = {n: v for n, v in found.to_json().items() if n != "choice"}
        if self._cache_path is not None:
            files.write_text(self._cache_path, json.dumps(self._kept))
        return found

    def by_graph(self, choice: Choice, judged: Mapping[str, JudgedGraph]) -> Trial:
        """Each graph of a form on what the float program gave it."""
        found = {}
        for name, judge in judged.items():
            own = {n.name for n in self.models[name].graph.node}
            key = (judge, dataclasses.replace(choice, floats=tuple(n for n in choice.floats if n in own)))
            if key not in self._graph_trials:
                self._graph_trials[key] = judge.trial(self._graph(choice, name))
            found[name] = self._graph_trials[key]
        return Trial(choice, min(t.sqnr_db for t in found.values()), None, found)

    def _whole(self, choice: Choice) -> Trial:
        with files.scratch("trial") as folder:
            return self.compare(choice, self.answers(self._draft(choice, Path(folder)), self.held_back))

    def compare(self, choice: Choice, got: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray] | None = None) -> Trial:
        """Answers held against those of the float model."""
        expected = expected if expected is not None else self.expected
        floats = [n for n, v in expected.items() if v.dtype.kind == "f"]
        worst = min((sqnr_db(expected[n], got[n]) for n in floats), default=200.0)
        # Scores of classes lie along the last axis of (batch, classes) or (batch, steps, classes); the last axis of pictures is their
        # width, that of a sampled signal its time, and features are what their family says.
        others = {t.name for t in self.source.manifest.signature.outputs if t.rate_hz}.union(self.task.features)
        rows = [n for n in floats if expected[n].ndim in (2, 3) and expected[n].shape[-1] > 1 and n not in others]
        same = min((float((expected[n].argmax(-1) == got[n].argmax(-1)).mean()) for n in rows), default=None)
        return Trial(choice, worst, same)

    def answers(self, bundle: Bundle, batches: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """All outputs over the batches, one behind the other."""
        with registry.find(Runtime, "onnxruntime").open(bundle) as session:
            found = [session.run(b) for b in batches]
        return {n: np.concatenate([np.atleast_1d(f[n]) for f in found]) for n in found[0]}

    def times_us(self, choices: list[Choice]) -> list[float]:
        """Median microseconds of one sample: of the float bundle first, then of each form; one pinned thread, in turns."""
        one = {n: v[:1] if self._free_batch() else v for n, v in self.held_back[0].items()}
        before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        with files.scratch("trial") as folder, ExitStack() as stack:
            bundles = [self.source, *(self._draft(c, Path(folder) / str(i)) for i, c in enumerate(choices))]
            runtime = registry.find(Runtime, "onnxruntime")
            calls = [stack.enter_context(runtime.open(b, threads=1)).bind(one) for b in bundles]
            if before:
                os.sched_setaffinity(0, {max(before)})
            try:
                taken: list[list[int]] = [[] for _ in calls]
                for _ in range(TIMED):
                    for call, times in zip(calls, taken, strict=True):
                        start = time.perf_counter_ns()
                        call()
                        times.append(time.perf_counter_ns() - start)
            finally:
                if before:
                    os.sched_setaffinity(0, before)
        return [statistics.median(t[TIMED // 5 :]) / 1e3 for t in taken]

    def _rounded(self, choice: Choice) -> dict[str, dict[str, Any]]:
        """{graph: ranges of the activations that the form rounds}."""
        taken = {g: {n.input[0] for n in m.graph.node if n.op_type == "QuantizeLinear"} for g, m in self.graphs(choice).items()}
        return {g: {n: r for n, r in ranges.items() if n in taken[g]} for g, ranges in self.ranges(choice).items()}

    def clip_rates(self, choice: Choice) -> dict[str, float]:
        """Share of the values outside of its range, of the ten tensors where it is largest, on the samples held back."""
        ranges, seen = self._rounded(choice), record(self.source, self.held_back)
        rates = {n: r for g, model in self.models.items() for n, r in qdq.clip_rates(model, ranges[g], seen[g]).items()}
        return dict(sorted(rates.items(), key=lambda item: -item[1])[:10])

    def unlike_test_data(self, choice: Choice) -> list[str]:
        """What shows that the test data is not like the calibration data: more noise, more values outside of the ranges."""
        model = self.source.manifest.model
        assert model is not None
        if not model.score_samples:
            return []
        inputs = self._batches(dict(self.task.held_out(model, SAMPLES // 2)))
        if self.judged:
            there = self.by_graph(choice, self._judges(inputs))
        else:
            with files.scratch("trial") as folder:
                got = self.answers(self._draft(choice, Path(folder)), inputs)
            there = self.compare(choice, got, self.answers(self.source, inputs))
        here = self.trial(choice)
        told = []
        if there.sqnr_db < here.sqnr_db - NOISIER_DB:
            told.append(f"SQNR is {here.sqnr_db:.1f} dB on calibration samples held back and {there.sqnr_db:.1f} dB on test inputs")
        ranges, seen = self._rounded(choice), record(self.source, inputs)
        for name, graph in self.models.items():
            usual, found = qdq.clip_rates(graph, ranges[name], self._calls[name]), qdq.clip_rates(graph, ranges[name], seen[name])
            worst = max(found, key=lambda n: found[n] - usual.get(n, 0.0), default="")
            if worst and found[worst] - usual.get(worst, 0.0) > CLIPPED:
                told.append(
                    f"{100 * found[worst]:.1f} % of the values of '{worst}' lie outside of its range on test inputs, "
                    f"{100 * usual.get(worst, 0.0):.2f} % on calibration samples"
                )
        return [f"calibration data is not like the test data: {t}" for t in told]

    @property
    def plain(self) -> Manifest:
        """The float manifest without its probes: where weights are rounded, inner spikes are other ones."""
        graphs = {n: dataclasses.replace(g, probes=()) for n, g in self.source.manifest.graphs.items()}
        return dataclasses.replace(self.source.manifest, graphs=graphs, files={})

    def _draft(self, choice: Choice, folder: Path) -> Bundle:
        # A form is tried without its preparations, which would only be copied.
        return self.write(choice, folder / "bundle", dataclasses.replace(self.plain, precision="int8", prepares=()))

    def _free_batch(self) -> bool:
        first = self.source.manifest.signature.inputs[0].shape
        return bool(first) and isinstance(first[0], str)

    def _batches(self, arrays: Arrays, view: Bundle | None = None) -> list[dict[str, np.ndarray]]:
        """Samples as the inputs of the bundle's own program, or of the task `view`, BATCH at a time where the batch is free. What
        is no input, a recording that a preparation makes inputs of, has its samples along the first axis."""
        inputs = (view or self.source).manifest.signature.inputs
        first = inputs[0].shape
        # A batch lies along the first axis but where a table of steps does: offsets (steps, batch, ...) of a loop.
        free = first and isinstance(first[0], str)
        along = {t.name: t.shape.index(first[0]) if free and first[0] in t.shape else 0 for t in inputs}
        name, some = next(iter(arrays.items()))
        count = some.shape[along.get(name, 0)]
        size = min(BATCH, count) if first and isinstance(first[0], str) else int(first[0]) if first else 1
        whole = count - count % size  # onnxruntime's histograms want batches of one size
        runtime = registry.find(Runtime, "onnxruntime")
        cut = [
            {n: np.ascontiguousarray(v[(slice(None),) * along.get(n, 0) + (slice(at, at + size),)]) for n, v in arrays.items()}
            for at in range(0, whole, size)
        ]  # fmt: skip
        return [completed(self.source, batch, runtime) for batch in cut]


FUSED = "/MatMulAddFusion"  # what onnxruntime's folding adds to the name of a product that takes in the sum behind it
NOISIER_DB = 6.0  # twice the noise amplitude
CLIPPED = 0.01  # share of a tensor's values


def _state_nodes(models: Mapping[str, Any], program: Program) -> set[str]:
    """Nodes that make states: they stay float, since what is lost there is lost again at each step."""
    carried = {(p.graph, out) for p in program.graph_phases() for out in p.carry}
    return {n.name for g, m in models.items() for n in m.graph.node if any((g, o) in carried for o in n.output)}


def _named(model: Any, prefix: str) -> Any:
    """The model with a prefix before the names of its nodes."""
    for node in model.graph.node:
        node.name = prefix + node.name
    return model


def _unnamed(model: Any, prefix: str) -> Any:
    """A model made of one that was _named, its nodes called as before."""
    for node in model.graph.node:
        node.name = node.name.removeprefix(prefix)
    return model


def _untrained(manifest: Manifest, models: Mapping[str, Any], prefix: Mapping[str, str]) -> frozenset[str]:
    """Nodes whose weights no training made (details.untrained): Fourier matrices, filter banks, codebooks. They are exact, and stay float."""
    listed = manifest.details.get("untrained", {})
    names = {prefix[g] + n for g, nodes in listed.items() if g in prefix for n in nodes}
    every = (n.name for m in models.values() for n in m.graph.node)
    return frozenset(n for n in every if n.removesuffix(FUSED) in names)
