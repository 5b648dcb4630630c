"""Read a program from JSON: every field present, none unknown, each of its type, or one sentence that says where."""

from __future__ import annotations

import math
from typing import Any

from edgekit.errors import Broken
from edgekit.program import (
    MOST_FUSED_STEPS,
    ZEROS,
    Affine,
    ArgMax,
    Clamp,
    Feed,
    Join,
    Operation,
    Phase,
    Program,
    Source,
    State,
    Stream,
    Term,
)
from edgekit.signature import DTYPES

KINDS = ("value", "tensor", "row", "zeros", "noise")
DISTRIBUTIONS = ("normal", "uniform")


def read_program(data: Any, where: str) -> Program:
    """Read what Program.to_json wrote; Broken, naming the place, for an unknown, missing or wrongly typed field."""
    read = _Reader(where)
    fields = read.object(data, ("seed", "phases"), "program")
    seed = read.whole(fields["seed"], 0, 2**64 - 1, "seed")
    phases = read.array(fields["phases"], "phases")
    if not phases:
        raise Broken(f"{where}: the program has no phases")
    return Program(tuple(read.phase(p, f"phases[{i}]", True) for i, p in enumerate(phases)), seed)


class _Reader:
    """Strict readers of JSON values; `at` says where in the program a value stands."""

    def __init__(self, where: str) -> None:
        self.where = where

    def broken(self, at: str, wanted: str, found: Any) -> Broken:
        return Broken(f"{self.where}: program: {at} must be {wanted}, found {found!r}"[:400])

    def object(self, data: Any, names: tuple[str, ...], at: str) -> dict[str, Any]:
        if not isinstance(data, dict) or set(data) != set(names):
            found = sorted(map(str, data)) if isinstance(data, dict) else data
            raise self.broken(at, f"an object of {', '.join(names)}", found)
        return data

    def array(self, data: Any, at: str) -> list[Any]:
        if not isinstance(data, list):
            raise self.broken(at, "an array", data)
        return data

    def text(self, data: Any, at: str) -> str:
        if not isinstance(data, str) or not data:
            raise self.broken(at, "a name", data)
        return data

    def whole(self, data: Any, low: int, high: int, at: str) -> int:
        if not isinstance(data, int) or isinstance(data, bool) or not low <= data <= high:
            raise self.broken(at, f"a whole number from {low} to {high}", data)
        return data

    def number(self, data: Any, at: str) -> float:
        if not isinstance(data, (int, float)) or isinstance(data, bool) or not math.isfinite(data):
            raise self.broken(at, "a number", data)
        return float(data)

    def one_of(self, data: Any, wanted: tuple[str, ...], at: str) -> Any:
        if not isinstance(data, str) or data not in wanted:
            raise self.broken(at, " or ".join(wanted), data)
        return data

    def names(self, data: Any, at: str) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise self.broken(at, "an object", data)
        return {self.text(k, at): v for k, v in data.items()}

    def renames(self, data: Any, at: str) -> dict[str, str]:
        return {k: self.text(v, f"{at}.{k}") for k, v in self.names(data, at).items()}

    def source(self, data: Any, at: str) -> Source:
        kind = next((k for k in KINDS if isinstance(data, dict) and k in data), None)
        if kind == "noise":
            fields = self.object(data, ("noise", "id", "calls"), at)
            name = self.one_of(fields["noise"], DISTRIBUTIONS, f"{at}.noise")
            identity = self.whole(fields["id"], 0, 2**32 - 1, f"{at}.id")
            return Source("noise", name, identity, self.whole(fields["calls"], 0, MOST_FUSED_STEPS, f"{at}.calls"))
        if kind is None or len(data) != 1 or (kind == "zeros" and data["zeros"] is not True):
            raise self.broken(at, f"a source, one of {', '.join(KINDS)}", data)
        return ZEROS if kind == "zeros" else Source(kind, self.text(data[kind], at))  # type: ignore[arg-type]

    def sources(self, data: Any, at: str) -> dict[str, Source]:
        return {k: self.source(v, f"{at}.{k}") for k, v in self.names(data, at).items()}

    def states(self, data: Any, at: str) -> dict[str, State]:
        made = {}
        for name, state in self.names(data, at).items():
            fields = self.object(state, ("dtype", "shape", "initial"), f"{at}.{name}")
            shape = self.array(fields["shape"], f"{at}.{name}.shape")
            for n in shape:
                if not isinstance(n, str):
                    self.whole(n, 1, 2**40, f"{at}.{name}.shape")
            dtype = self.one_of(fields["dtype"], DTYPES, f"{at}.{name}.dtype")
            made[name] = State(dtype, tuple(shape), self.source(fields["initial"], f"{at}.{name}.initial"))
        return made

    def operation(self, data: Any, at: str) -> Operation:
        op = data.get("op") if isinstance(data, dict) else None
        if op == "affine":
            fields = self.object(data, ("op", "terms", "to"), at)
            terms = []
            for i, term in enumerate(self.array(fields["terms"], f"{at}.terms")):
                t = self.object(term, ("of", "by"), f"{at}.terms[{i}]")
                by = t["by"]
                factor = self.source(by, f"{at}.by") if isinstance(by, dict) else self.number(by, f"{at}.by")
                terms.append(Term(self.source(t["of"], f"{at}.of"), factor))
            return Affine(tuple(terms), self.text(fields["to"], f"{at}.to"))
        if op == "clamp":
            fields = self.object(data, ("op", "of", "low", "high", "to"), at)
            low, high = self.number(fields["low"], f"{at}.low"), self.number(fields["high"], f"{at}.high")
            return Clamp(self.source(fields["of"], f"{at}.of"), low, high, self.text(fields["to"], f"{at}.to"))
        if op == "argmax":
            fields = self.object(data, ("op", "of", "axis", "to"), at)
            axis = self.whole(fields["axis"], -16, 15, f"{at}.axis")
            return ArgMax(self.source(fields["of"], f"{at}.of"), axis, self.text(fields["to"], f"{at}.to"))
        raise self.broken(at, "an operation, one of affine, clamp, argmax", data)

    def phase(self, data: Any, at: str, may_stream: bool) -> Any:
        run = data.get("run") if isinstance(data, dict) else None
        if run == "stream" and may_stream:
            return self.stream(data, at)
        f = self.object(
            data, ("run", "steps", "graph", "states", "inputs", "outputs", "carry", "epilogue", "collect"), at
        )
        run = self.one_of(f["run"], ("once", "steps"), f"{at}.run")
        return Phase(
            graph=self.text(f["graph"], f"{at}.graph"),
            run=run,
            steps=self.whole(f["steps"], 1, 1 if run == "once" else 2**31 - 1, f"{at}.steps"),
            inputs=self.sources(f["inputs"], f"{at}.inputs"),
            outputs=self.renames(f["outputs"], f"{at}.outputs"),
            states=self.states(f["states"], f"{at}.states"),
            carry=self.renames(f["carry"], f"{at}.carry"),
            epilogue=tuple(self.operation(o, f"{at}.epilogue[{i}]") for i, o in enumerate(self.array(f["epilogue"], at))),
            collect=self.renames(f["collect"], f"{at}.collect"),
        )

    def stream(self, data: Any, at: str) -> Stream:
        f = self.object(data, ("run", "feeds", "tail", "states", "phases", "joins"), at)
        feeds, joins = {}, {}
        for name, feed in self.names(f["feeds"], f"{at}.feeds").items():
            g = self.object(feed, ("axis", "window", "hop"), f"{at}.feeds.{name}")
            axis = self.whole(g["axis"], 0, 15, f"{at}.feeds.{name}.axis")
            if g["window"] is None and g["hop"] is None:
                feeds[name] = Feed(axis)
            else:
                window = self.whole(g["window"], 1, 2**31 - 1, f"{at}.feeds.{name}.window")
                feeds[name] = Feed(axis, window, self.whole(g["hop"], 1, window, f"{at}.feeds.{name}.hop"))
        for name, join in self.names(f["joins"], f"{at}.joins").items():
            g = self.object(join, ("axis", "how", "delay"), f"{at}.joins.{name}")
            how = self.one_of(g["how"], ("concat", "stack", "last"), f"{at}.joins.{name}.how")
            axis = self.whole(g["axis"], 0, 15, f"{at}.joins.{name}.axis")
            most = 2**31 - 1 if how == "concat" else 0
            joins[name] = Join(how, axis, self.whole(g["delay"], 0, most, f"{at}.joins.{name}.delay"))
        phases = self.array(f["phases"], f"{at}.phases")
        if not feeds or not phases:
            raise Broken(f"{self.where}: program: {at} is a stream without feeds or without phases")
        return Stream(
            feeds,
            tuple(self.phase(p, f"{at}.phases[{i}]", False) for i, p in enumerate(phases)),
            joins,
            self.states(f["states"], f"{at}.states"),
            self.one_of(f["tail"], ("pad", "drop"), f"{at}.tail"),
        )
