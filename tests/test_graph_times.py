"""Time by graph: a graph that is made heavier takes the larger share, sums stay below the whole, and it is shown where layers are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from report_fixture import sample_run
from toy_bundles import bundle, graph, tensor

from edgekit import layers, registry
from edgekit.bundle import Bundle, Golden
from edgekit.counting import one_sample
from edgekit.graph_times import by_graph
from edgekit.layer_profile import GraphTime, Layer, LayerProfile
from edgekit.parts import Runtime
from edgekit.program import Feed, Join, Phase, Program, State, Stream, value
from edgekit.report import layer_tables
from edgekit.report.data import Run
from edgekit.signature import Signature

WIDTH = 64
ENGINES = ["onnxruntime", "openvino"]


def products(name: str, count: int):
    """x -> y through `count` products of WIDTH x WIDTH, each after a tanh, so that no engine folds them into one."""
    names = ["x", *(f"{name}{i}" for i in range(count))]
    nodes = []
    for i in range(count):
        nodes += [helper.make_node("MatMul", [names[i], f"{name}_w{i}"], [f"{name}_m{i}"]), helper.make_node("Tanh", [f"{name}_m{i}"], [names[i + 1]])]
    nodes.append(helper.make_node("Identity", [names[-1]], ["y"]))
    rng = np.random.default_rng(0)
    weights = {f"{name}_w{i}": (rng.normal(size=(WIDTH, WIDTH)) / 8).astype(np.float32) for i in range(count)}
    return graph((tensor("x", 8, WIDTH),), (tensor("y", 8, WIDTH),), nodes, weights)


def two(folder: Path, heavy: str) -> Bundle:
    """A stream of two graphs, one of 2 products and one of 60; `first` runs once a chunk, `second` three times."""
    graphs = {n: products(n, 60 if n == heavy else 2) for n in ("first", "second")}
    first = Phase("first", inputs={"x": value("sound")}, outputs={"y": "middle"})
    second = Phase("second", "steps", 3, {"x": value("middle")}, {"y": "out"})
    program = Program((Stream({"sound": Feed(0, 8, 8)}, (first, second), {"out": Join("concat", 0)}),))
    signature = Signature((tensor("sound", "frames", WIDTH),), (tensor("out", "given", WIDTH),))
    return bundle(folder, graphs, signature, program, golden=Golden({"sound": np.ones((16, WIDTH), np.float32)}, {}))


def timed(made: Bundle, engine: str, runs: int = 60) -> tuple[dict[str, GraphTime], float]:
    pytest.importorskip(engine)
    with registry.find(Runtime, engine).open(made, threads=1) as session:
        graphs, whole = by_graph(session, one_sample(made), runs)
    assert whole is not None
    return {g.name: g for g in graphs}, whole


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("heavy", ["first", "second"])
def test_the_heavier_graph_takes_the_larger_share(engine: str, heavy: str, tmp_path: Path):
    found, whole = timed(two(tmp_path / "b", heavy), engine)
    light = "second" if heavy == "first" else "first"
    assert list(found) == ["first", "second"] and (found["first"].calls, found["second"].calls) == (1, 3)
    assert found[heavy].call_us > 2 * found[light].call_us  # 30 times the products; a busy machine adds to both
    assert found[heavy].share > 0.6 and sum(g.share for g in found.values()) == pytest.approx(1)
    assert found["second"].time_us == pytest.approx(3 * found["second"].call_us, rel=0.5)
    total = sum(g.time_us for g in found.values())
    assert 0.3 * whole < total < 1.05 * whole  # a median of sums and a sum of medians differ by a little


def decay_twice(folder: Path) -> Bundle:
    """Two graphs with a state each, which OpenVINO keeps itself."""
    from toy_bundles import decay

    phases, states = [], {}
    for name, given, to in (("one", "x", "u1"), ("two", "u1", "u2")):
        states[to] = State("float32", (1, 2))
        phases.append(Phase(name, inputs={"x": value(given), "u": value(to)}, carry={"u_next": to}))
    program = Program((Stream({"x": Feed(0)}, tuple(phases), {"u2": Join("stack", 0)}, states),))
    signature = Signature((tensor("x", "time", 1, 2),), (tensor("u2", "time", 1, 2),))
    return bundle(folder, {"one": decay(1, 2), "two": decay(1, 2)}, signature, program)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_clock_around_the_graphs_changes_no_answer(engine: str, tmp_path: Path):
    pytest.importorskip(engine)
    made = decay_twice(tmp_path / "b")
    x = np.random.default_rng(1).normal(size=(9, 1, 2)).astype(np.float32)
    with registry.find(Runtime, engine).open(made) as session:
        before = session.run({"x": x})["u2"]
        graphs, _ = by_graph(session, one_sample(made), 5)
        assert np.array_equal(session.run({"x": x})["u2"], before)
    assert [(g.name, g.calls) for g in graphs] == [("one", 1), ("two", 1)]


def test_one_graph_has_no_table_of_graphs(tmp_path: Path):
    data, signature = products("only", 2)
    made = bundle(tmp_path / "b", {"main": (data, signature)}, signature, Program((Phase(inputs={"x": value("x")}, outputs={"y": "y"}),)))
    with registry.find(Runtime, "onnxruntime").open(made) as session:
        assert by_graph(session, one_sample(made), 3) == ((), None)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_fresh_process_tells_graphs_beside_layers(engine: str, tmp_path: Path):
    pytest.importorskip(engine)
    found = layers.work(str(two(tmp_path / "b", "second").folder), engine, 1)
    assert [g.name for g in found.graphs] == ["first", "second"] and found.graphs[1].share > 0.6
    assert found.whole_us is not None and found.layers


def profiled() -> LayerProfile:
    times = (GraphTime("encoder", 1, 300.0, 300.0, 0.75), GraphTime("depth", 4, 25.0, 100.0, 0.25))
    return LayerProfile("onnxruntime 1", 1, 400, (Layer("encoder/a", "Conv", "", "f32", 9.0, 1.0, None, None),), None, None, (), times, 432.1)


def test_the_report_has_a_table_of_graphs_and_keeps_it():
    run = sample_run()
    run = dataclasses.replace(run, bundles=(dataclasses.replace(run.bundles[0], layers=(profiled(),)),))
    (table,) = layer_tables.graphs(run)
    assert "By graph" in table.title and "432 µs (p50)" in table.caption
    rows = [tuple(cell.text for cell in row) for row in table.rows]
    assert rows == [("encoder", "1", "300", "300", "75.0"), ("depth", "4", "25.0", "100", "25.0"), ("all", "5", "-", "400", "100.0")]
    again = Run.from_json(run.to_json())
    assert again.bundles[0].layers[0].graphs == profiled().graphs


def test_the_command_shows_graphs(capsys: pytest.CaptureFixture[str]):
    from edgekit.cli import profile

    profile._show_layers(profiled())
    told = capsys.readouterr().out
    assert "graphs    400.0 us in all, without a profiler; one inference or chunk has p50 432.1 us" in told
    assert "25.0 %      100.0 us  depth (4 calls of 25.0 us)" in told
