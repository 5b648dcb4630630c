"""Programs on real engines, against the same loop written out in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from toy_bundles import bundle, decay, graph, tensor

from edgekit import registry
from edgekit.errors import EdgekitError
from edgekit.noise import draw
from edgekit.parts import Runtime
from edgekit.program import (
    Affine,
    ArgMax,
    Clamp,
    Feed,
    Join,
    Phase,
    Program,
    Source,
    State,
    Stream,
    Term,
    noise,
    row,
    value,
)
from edgekit.program import tensor as constant
from edgekit.signature import Signature

ENGINES = ("onnxruntime", "openvino", "cpp", "cpp_openvino")
RNG = np.random.default_rng(5)


def opened(engine: str, made):
    part = registry.find(Runtime, engine)
    if part.ready():
        pytest.skip(part.ready())
    return part.open(made)


def close(a, b):
    np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_steps_carry_a_state_over_rows_and_any_batch(tmp_path: Path, engine: str):
    """u <- 0.5 u + row_i + noise in an epilogue, clamped; the path is collected."""
    step = graph((tensor("x", 3), tensor("u", "batch", 3)), (tensor("u_next", "batch", 3),),
                 [helper.make_node("Mul", ["u", "half"], ["m"]), helper.make_node("Add", ["m", "x"], ["u_next"])], {"half": np.float32(0.5)})  # fmt: skip
    table, scale = RNG.normal(size=(5, 3)).astype(np.float32), RNG.normal(size=(5, 1)).astype(np.float32)
    kick = Affine((Term(value("u"), 1.0), Term(noise(3, "uniform"), row("scale"))), "kicked")
    program = Program((Phase(
        "g", "steps", 5, inputs={"x": row("table"), "u": value("u")}, states={"u": State("float32", ("batch", 3), value("start"))},
        carry={"u_next": "u"}, epilogue=(kick, Clamp(value("kicked"), -1.0, 1.5, "u"), ArgMax(value("u"), -1, "best")),
        collect={"path": "u"}),), seed=9)  # fmt: skip
    whole = Signature((tensor("start", "batch", 3),), (tensor("u", "batch", 3), tensor("path", 5, "batch", 3), tensor("best", "batch", dtype="int64")))
    made = bundle(tmp_path / "b", {"g": step}, whole, program, {"table": table, "scale": scale})
    with opened(engine, made) as session:
        for batch, seed in ((2, None), (5, 77), (2, None)):
            u = start = RNG.normal(size=(batch, 3)).astype(np.float32)
            path = []
            for i in range(5):
                u = np.float32(0.5) * u + table[i]
                u = np.clip(u + draw("uniform", u.shape, 9 if seed is None else seed, 3, i) * scale[i], np.float32(-1), np.float32(1.5))
                path.append(u)
            found = session.run({"start": start}, seed)
            close(found["u"], u)
            close(found["path"], np.stack(path))
            assert found["best"].tolist() == u.argmax(-1).tolist()


@pytest.mark.parametrize("engine", ENGINES)
def test_two_graphs_constants_noise_inputs_and_sizes_that_the_engine_decides(tmp_path: Path, engine: str):
    first = graph((tensor("x", "n"), tensor("z", "n")), (tensor("y", "n"),), [helper.make_node("Add", ["x", "z"], ["y"])])
    second = graph((tensor("y", "n"), tensor("w", 1)), (tensor("kept", "m", dtype="int64"),),
                   [helper.make_node("Greater", ["y", "w"], ["b"]), helper.make_node("NonZero", ["b"], ["i"]),
                    helper.make_node("Squeeze", ["i", "zero"], ["kept"])], {"zero": np.array([0], np.int64)})  # fmt: skip
    program = Program((
        Phase("first", inputs={"x": value("x"), "z": noise(0)}, outputs={"y": "y"}),
        Phase("second", inputs={"y": value("y"), "w": constant("w")}, outputs={"kept": "kept"}),
    ), seed=4)  # fmt: skip
    whole = Signature((tensor("x", "n"),), (tensor("kept", "m", dtype="int64"), tensor("y", "n")))
    made = bundle(tmp_path / "b", {"first": first, "second": second}, whole, program, {"w": np.array([0.3], np.float32)})
    with opened(engine, made) as session:
        for n in (7, 30):
            x = RNG.normal(size=n).astype(np.float32)
            y = x + draw("normal", (n,), 4, 0)
            found = session.run({"x": x})
            close(found["y"], y)
            assert found["kept"].tolist() == np.flatnonzero(y > 0.3).tolist()


def streaming(folder: Path, tail: str = "pad", held: bool = True):
    """Windows of 6 by 4 through y = sum(window) + s, s <- y; a second input in slices; a phase before and one after."""
    step = graph((tensor("w", 1, 6), tensor("k", 1), tensor("s", 1, 1)), (tensor("y", 1, 1), tensor("s_next", 1, 1)),
                 [helper.make_node("ReduceSum", ["w", "axis"], ["t"], keepdims=1), helper.make_node("Mul", ["t", "k"], ["p"]),
                  helper.make_node("Mul", ["s", "half"], ["q"]), helper.make_node("Add", ["p", "q"], ["y"]),
                  helper.make_node("Identity", ["y"], ["s_next"])], {"axis": np.array([1], np.int64), "half": np.float32(0.5)})  # fmt: skip
    double = graph((tensor("a", 1, 1),), (tensor("b", 1, 1),), [helper.make_node("Add", ["a", "a"], ["b"])])
    feeds = {"sound": Feed(1, 6, 4), "gain": Feed(0)}
    inner = Phase("step", inputs={"w": value("sound"), "k": value("gain"), "s": value("s")}, outputs={"y": "y"}, carry={"s_next": "s"})
    joins = {"y": Join("concat", 1)} if held else {"y": Join("stack", 0), "s": Join("last", 0)}
    stream = Stream(feeds, (inner,), joins, {"s": State("float32", (1, 1), value("first"))}, tail)
    program = Program((Phase("double", inputs={"a": value("given")}, outputs={"b": "first"}), stream,
                       *((Phase("double", inputs={"a": value("s")}, outputs={"b": "end"}),) if not held else ())))  # fmt: skip
    outputs = (tensor("y", 1, "frames"),) if held else (tensor("y", "frames", 1, 1), tensor("s", 1, 1), tensor("end", 1, 1))
    whole = Signature((tensor("sound", 1, "samples"), tensor("gain", "chunks", 1), tensor("given", 1, 1)), outputs)
    return bundle(folder, {"step": step, "double": double}, whole, program)


def expected(sound: np.ndarray, gain: np.ndarray, given: float, tail: str) -> list[float]:
    padded = np.concatenate([np.zeros(2), sound[0], np.zeros(-sound.shape[1] % 4 if tail == "pad" else 0)])
    s, found = 2 * given, []
    for k in range(min((len(padded) - 2) // 4, len(gain))):
        s = padded[4 * k : 4 * k + 6].sum() * gain[k, 0] + 0.5 * s
        found.append(s)
    return found


@pytest.mark.parametrize("held", [True, False], ids=["held", "joined"])
@pytest.mark.parametrize("tail", ["pad", "drop"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_stream_is_cut_run_and_joined(tmp_path: Path, engine: str, tail: str, held: bool):
    made = streaming(tmp_path / "b", tail, held)
    with opened(engine, made) as session:
        for samples in (22, 24, 5):
            sound = RNG.normal(size=(1, samples)).astype(np.float32)
            gain = RNG.normal(size=(-(-samples // 4) if tail == "pad" else samples // 4, 1)).astype(np.float32)
            inputs = {"sound": sound, "gain": gain, "given": np.full((1, 1), 0.7, np.float32)}
            found, want = session.run(inputs), expected(sound, gain, 0.7, tail)
            close(found["y"].reshape(-1), want)
            if not held:
                close(found["s"], [[want[-1]]])
                close(found["end"], [[2 * want[-1]]])


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_pushes_of_any_size_give_what_one_run_gives_bit_for_bit(tmp_path: Path, engine: str):
    step = decay(1, 4)
    inputs = {"x": value("sound"), "u": value("u")}
    stream = Stream({"sound": Feed(1, 4, 3)}, (Phase("g", inputs=inputs, carry={"u_next": "u"}),), {"u": Join("concat", 1)},
                    {"u": State("float32", (1, 4))})  # fmt: skip
    whole = Signature((tensor("sound", 1, "samples"),), (tensor("u", 1, "frames"),))
    made = bundle(tmp_path / "b", {"g": step}, whole, Program((stream,)))
    sound = RNG.normal(size=(1, 50)).astype(np.float32)
    with opened(engine, made) as session:
        whole_run = session.run({"sound": sound})["u"]

        @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(st.lists(st.integers(1, 20), min_size=1, max_size=8))
        def in_pieces(sizes: list[int]) -> None:
            assert np.array_equal(session.run_pieces({"sound": sound}, sizes)["u"], whole_run)

        in_pieces()
        session.begin({})
        first = session.push({"sound": sound[:, :10]})["u"]
        session.push({"sound": sound[:, :7]})
        session.begin({})
        assert np.array_equal(session.push({"sound": sound[:, :10]})["u"], first)
        session.close()
        assert session.push({"sound": sound[:, :1]})["u"].shape == (1, 0)


def test_what_cannot_be_done_is_one_sentence(tmp_path: Path):
    made = streaming(tmp_path / "b")
    x = np.zeros((1, 4), np.float32)
    one = np.ones((1, 1), np.float32)
    with opened("onnxruntime", made) as session:
        with pytest.raises(EdgekitError, match="no stream was begun"):
            session.close()
        with pytest.raises(EdgekitError, match=r"inputs \[\] were given.*'given'"):
            session.begin({})
        session.begin({"given": one})
        with pytest.raises(EdgekitError, match="before anything was pushed"):
            session.close()
        session.begin({"given": one})
        with pytest.raises(EdgekitError, match=r"'sound' must be float32 \[1, 'samples'\], but got float32 \[4\]"):
            session.push({"sound": x[0], "gain": one})
        with pytest.raises(EdgekitError, match="was pushed, but this stream takes"):
            session.push({"sound": x})
        with pytest.raises(EdgekitError, match="a seed is a whole number"):
            session.begin({"given": one}, -1)
    plain = bundle(tmp_path / "p", {"g": decay(1, 2)}, Signature((tensor("x", 1, 2),), (tensor("u", 1, 2),)),
                   Program((Phase("g", "steps", 2, inputs={"x": value("x"), "u": value("u")}, states={"u": State("float32", (1, 2))},
                                  carry={"u_next": "u"}),)))  # fmt: skip
    with opened("onnxruntime", plain) as session, pytest.raises(EdgekitError, match="is no stream"):
        session.push({"x": x})


def test_a_noise_source_of_a_fused_graph_draws_a_slab_a_step(tmp_path: Path):
    add = graph((tensor("z", 3, 2),), (tensor("y", 3, 2),), [helper.make_node("Identity", ["z"], ["y"])])
    made = bundle(tmp_path / "b", {"main": add}, Signature((), (tensor("y", 3, 2),)),
                  Program((Phase(inputs={"z": Source("noise", "normal", 6, 3)}, outputs={"y": "y"}),), seed=1))  # fmt: skip
    with opened("onnxruntime", made) as session:
        close(session.run({})["y"], np.stack([draw("normal", (2,), 1, 6, i) for i in range(3)]))
