"""What a program may say: strict reading, and the rules that hold before anything runs."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edgekit.errors import Broken
from edgekit.program import (
    ZEROS,
    Affine,
    ArgMax,
    Clamp,
    Feed,
    Join,
    Phase,
    Program,
    State,
    Stream,
    Term,
    fusable,
    noise,
    once,
    row,
    tensor,
    value,
)
from edgekit.program_check import check
from edgekit.program_file import read_program
from edgekit.signature import Signature, Tensor

STEP = Signature((Tensor("x", "float32", ("batch", 2)), Tensor("u", "float32", ("batch", 2))), (Tensor("u_next", "float32", ("batch", 2)),))
WHOLE = Signature((Tensor("x", "float32", ("batch", 2)),), (Tensor("u", "float32", ("batch", 2)),))
PHASE = Phase(
    "g", "steps", 3, inputs={"x": value("x"), "u": value("u")}, states={"u": State("float32", ("batch", 2))}, carry={"u_next": "u"}
)  # fmt: skip
FULL = Program(
    (
        dataclasses.replace(
            PHASE, collect={"path": "u"},
            epilogue=(Affine((Term(value("u"), 0.5), Term(noise(1), row("scale"))), "u"), Clamp(value("u"), -1, 1, "c"), ArgMax(value("u"), -1, "a")),
        ),
        Stream({"x": Feed(0, 4, 2)}, (dataclasses.replace(PHASE, run="once", steps=1, states={}),), {"u": Join("stack", 1)},
               {"v": State("int64", (3, "batch"), tensor("start"))}, "drop"),
    ),
    seed=2**64 - 1,
)  # fmt: skip


def objects(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all objects whose fields are fixed."""
    free = ("states", "inputs", "outputs", "carry", "collect", "feeds", "joins")
    if isinstance(data, dict):
        if not path or path[-1] not in free:
            yield path
        for key, inner in data.items():
            yield from objects(inner, (*path, key))
    elif isinstance(data, list):
        for i, inner in enumerate(data):
            yield from objects(inner, (*path, i))


def changed(data: Any, path: tuple[Any, ...]) -> tuple[Any, Any]:
    made = json.loads(json.dumps(data))
    at = made
    for key in path:
        at = at[key]
    return made, at


def test_a_program_is_read_as_it_was_written():
    assert read_program(json.loads(json.dumps(FULL.to_json())), "x") == FULL


@pytest.mark.parametrize("path", list(objects(FULL.to_json())), ids=str)
def test_no_object_takes_a_field_more_or_less(path: tuple[Any, ...]):
    data = FULL.to_json()
    whole, at = changed(data, path)
    at["surprise"] = 1
    with pytest.raises(Broken, match="here: program: "):
        read_program(whole, "here")
    for key in at:
        if key != "surprise":
            short, inner = changed(data, path)
            del inner[key]
            with pytest.raises(Broken, match="here: program: "):
                read_program(short, "here")


@pytest.mark.parametrize("path", list(objects(FULL.to_json())), ids=str)
def test_no_field_takes_a_value_of_another_type(path: tuple[Any, ...]):
    data = FULL.to_json()
    for key in changed(data, path)[1]:
        whole, at = changed(data, path)
        at[key] = {"of": "another type"} if not isinstance(at[key], dict) else 7.5j.imag
        if (key, at[key]) == ("by", 7.5):
            continue  # a factor may be a number
        with pytest.raises(Broken, match="here: program: "):
            read_program(whole, "here")


RULES = {
    "runs the graph 'h'": Program((dataclasses.replace(PHASE, graph="h"),)),
    "binds ['x'] in phases[0], but the graph 'g' takes ['u', 'x']": Program((dataclasses.replace(PHASE, inputs={"x": value("x")}),)),
    "reads 'y' for": Program((dataclasses.replace(PHASE, inputs={"x": value("y"), "u": value("u")}),)),
    "which tensors.safetensors does not hold": Program((dataclasses.replace(PHASE, inputs={"x": tensor("w"), "u": value("u")}),)),
    "reads rows of 'table' [4, 2, 2]": Program((dataclasses.replace(PHASE, inputs={"x": row("table"), "u": value("u")}),)),
    "zeros are for initial values": Program((dataclasses.replace(PHASE, inputs={"x": ZEROS, "u": value("u")}),)),
    "gives two noise sources one id": Program((dataclasses.replace(PHASE, inputs={"x": noise(1), "u": noise(1)}, carry={}, outputs={"u_next": "o"}, states={}),)),
    "which is no state": Program((dataclasses.replace(PHASE, carry={"u_next": "w"}),)),
    "both as an output and as a carry": Program((dataclasses.replace(PHASE, outputs={"u_next": "o"}),)),
    "though it is there already": Program((dataclasses.replace(PHASE, carry={}, outputs={"u_next": "x"}),)),
    "takes 'v' from the graph 'g'": Program((dataclasses.replace(PHASE, carry={"v": "u"}),)),
    "a size of which": None,
    "the size 'rows', which no input carries": Program((dataclasses.replace(PHASE, states={"u": State("float32", ("rows", 2))}),)),
    "gives float32 [4, 2, 2] to 'x'": Program((dataclasses.replace(PHASE, inputs={"x": tensor("table"), "u": value("u")}),)),
    "never writes the output 'u'": Program((dataclasses.replace(PHASE, inputs={"x": value("x"), "u": value("x")}, states={}, carry={}),)),
    "nothing but noise": Program((dataclasses.replace(PHASE, epilogue=(Affine((Term(noise(1), 1.0),), "z"),)),)),
    "float32 of one shape is needed": Program((dataclasses.replace(PHASE, epilogue=(Affine((Term(value("u"), 1.0), Term(tensor("table"), 1.0)), "z"),)),)),
    "argmax of": Program((dataclasses.replace(PHASE, epilogue=(ArgMax(value("u"), 2, "z"),)),)),
    "collects 'q'": Program((dataclasses.replace(PHASE, collect={"p": "q"}),)),
    "has more than one stream": Program((Stream({"x": Feed(0)}, (PHASE,), {}), Stream({"x": Feed(0)}, (PHASE,), {}))),
    "feeds 'y', which is no input": Program((Stream({"y": Feed(0)}, (PHASE,), {}),)),
    "along axis 1, which has no free size": Program((Stream({"x": Feed(1)}, (PHASE,), {}),)),
    "joins 'q'": Program((Stream({"x": Feed(0, 2, 2)}, (dataclasses.replace(PHASE, states={"u": State("float32", (2, 2))}),), {"q": Join()}),)),
}
RULES = {k: v for k, v in RULES.items() if v is not None}


@pytest.mark.parametrize("says", RULES)
def test_a_rule_that_is_broken_is_named(says: str):
    with pytest.raises(Broken) as caught:
        check(RULES[says], WHOLE, {"g": STEP}, {"table": np.zeros((4, 2, 2), np.float32)}, "here")
    assert says in str(caught.value) and str(caught.value).startswith("here: the program")


def test_a_program_without_fault_passes_and_is_known_for_what_it_is():
    good = Program((PHASE,))
    check(good, WHOLE, {"g": STEP}, {}, "here")
    assert fusable(good) and not good.runs_once and good.loops("g") and good.stream is None
    plain = once(("x",), ("y",))
    assert plain.runs_once and not fusable(plain) and not plain.loops("main")
    assert not fusable(Program((dataclasses.replace(PHASE, steps=9),)))
    assert copy.deepcopy(FULL) == FULL and FULL.tensors == {"scale", "start"}
