"""What a stranger's ONNX model may say: versions, operators, functions, order and names of its values; checked in plain Python."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from edgekit import limits
from edgekit.errors import Broken, EdgekitError
from edgekit.onnx_tensors import bodies, check_tensors, floats_of
from edgekit.plain_text import shown

DOMAINS = ("", "ai.onnx")  # operators of the standard; others need code that a device may not have
# Inputs that are scales of a quantisation; and operators whose weights must be finite.
SCALES = {"QuantizeLinear": (1,), "DequantizeLinear": (1,), "QLinearConv": (1, 4, 6), "QLinearMatMul": (1, 4, 6), "DynamicQuantizeLinear": ()}
WEIGHTED = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "RNN", "BatchNormalization", "LayerNormalization"})
RANDOM = frozenset({"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"})


def check_proto(proto: Any, where: str) -> None:
    """All but values of tensors, the cheapest first. EdgekitError, in one sentence."""
    if not proto.graph.node or not proto.graph.output:
        raise Broken(f"{where} holds no graph with nodes and outputs; it is no ONNX model, or not all of one")
    if len(proto.training_info):
        raise Broken(f"{where} carries graphs for training beside its own; export it for inference")
    opset = _check_versions(proto, where)
    _check_bodies(proto, where)
    _check_functions(proto, where)
    _check_operators(proto, opset, where)
    _check_values(proto, where)


def check_filled(proto: Any, where: str) -> None:
    """What needs the values of all tensors, those of other files among them."""
    check_tensors(proto, where)
    _check_scales(proto, where)


def _check_versions(proto: Any, where: str) -> int:
    import onnx

    if proto.ir_version > onnx.IR_VERSION or proto.ir_version < 1:
        raise EdgekitError(f"{where} is of ONNX format {proto.ir_version}, this edgekit reads 1 to {onnx.IR_VERSION}; export it with an older one")
    newest = onnx.defs.onnx_opset_version()
    for imports in (proto.opset_import, *(f.opset_import for f in proto.functions)):
        said: dict[str, int] = {}
        for o in imports:
            domain = "" if o.domain in DOMAINS else o.domain
            if said.setdefault(domain, o.version) != o.version:
                said_twice = f"{said[domain]} and {o.version}"
                raise Broken(f"{where} names two versions of the operators of '{shown(domain) or 'ai.onnx'}': {said_twice}; refused")
        written = said.get("")
        if written is not None and written > newest:
            raise EdgekitError(f"{where} uses opset {written}, this edgekit knows up to {newest}; export it with an older one")
        if written is not None and written < limits.OLDEST_OPSET:
            raise Broken(f"{where} uses opset {written}, which there is not; export it again")
    found = next((o.version for o in proto.opset_import if o.domain in DOMAINS), None)
    if found is None:
        raise Broken(f"{where} does not say which version of the ONNX operators it uses (no opset import); export it again")
    return int(found)


def _check_bodies(proto: Any, where: str) -> None:
    nodes = 0
    for body, depth in bodies(proto):
        nodes += len(body.node)
        if depth > limits.MOST_GRAPH_DEPTH:
            raise EdgekitError(f"{where} has graphs in graphs more than {limits.MOST_GRAPH_DEPTH} deep, on which engines run out of stack; refused")
        if nodes > limits.MOST_NODES:
            raise EdgekitError(f"{where} has more than {limits.MOST_NODES:,} nodes; refused")
        for node in body.node:
            names = [a.name for a in node.attribute]
            if len(set(names)) != len(names):
                raise Broken(f"{where}: {_who(node)} has an attribute twice; refused")
            if any(len(a.s) > limits.MOST_TEXT_CHARS or sum(map(len, a.strings)) > limits.MOST_TEXT_CHARS for a in node.attribute):
                raise Broken(f"{where}: {_who(node)} has a text of more than {limits.MOST_TEXT_CHARS:,} bytes as an attribute; refused")


def _check_functions(proto: Any, where: str) -> None:
    """No function calls itself by way of others, and all of them written out stay within the limit."""
    functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
    if len(functions) != len(proto.functions) or any(f.domain in DOMAINS for f in proto.functions):
        raise Broken(f"{where} defines a function twice, or one in the place of a standard operator; refused")
    sizes: dict[tuple[str, str, str], int] = {}
    depths: dict[tuple[str, str, str], int] = {}
    too_deep = Broken(f"{where} has functions that call one another more than {limits.MOST_FUNCTION_DEPTH} deep; refused")

    def size(body: Any, above: tuple[tuple[str, str, str], ...]) -> int:
        total = deepest = 0
        for node in nodes_of(body):
            key = (node.domain, node.op_type, node.overload)
            if key in above:
                raise Broken(f"{where}: the function {shown('.'.join(key[:2]))} calls itself, so it has no end; refused")
            if key in functions and key not in sizes:
                if len(above) >= limits.MOST_FUNCTION_DEPTH:
                    raise too_deep
                sizes[key] = size(functions[key], (*above, key))
            total += sizes.get(key, 1)
            deepest = max(deepest, depths.get(key, 0))
        if deepest >= limits.MOST_FUNCTION_DEPTH:
            raise too_deep
        if above:
            depths[above[-1]] = 1 + deepest
        return total

    for key, function in functions.items():
        if key not in sizes:
            sizes[key] = size(function, (key,))
    if size(proto.graph, ()) > limits.MOST_EXPANDED_NODES:
        raise Broken(f"{where} has more than {limits.MOST_EXPANDED_NODES:,} nodes once its functions are written out; refused")


def nodes_of(body: Any) -> Iterator[Any]:
    """The nodes of a body and of all graphs in them."""
    pending = [body]
    while pending:
        for node in pending.pop().node:
            yield node
            for a in node.attribute:
                pending += [*([a.g] if a.HasField("g") else []), *a.graphs]


def _check_operators(proto: Any, opset: int, where: str) -> None:
    import onnx

    own = {(f.domain, f.name) for f in proto.functions}
    every = [(proto.graph, opset)]
    every += [(f, next((o.version for o in f.opset_import if o.domain in DOMAINS), opset)) for f in proto.functions]
    odd = {f"{n.domain}.{n.op_type}" for body, _ in every for n in nodes_of(body) if n.domain not in DOMAINS and (n.domain, n.op_type) not in own}
    if odd:
        raise EdgekitError(f"{where} uses operators outside the ONNX standard: {shown(', '.join(sorted(odd)[:10]))}; export it without them")
    for version, op in sorted({(version, n.op_type) for body, version in every for n in nodes_of(body) if n.domain in DOMAINS}):
        try:
            known = not onnx.defs.get_schema(op, version, "").deprecated
        except Exception:  # onnx's own SchemaError
            known = False
        if not known:
            names = {s.name for s in onnx.defs.get_all_schemas() if not s.deprecated and s.domain == ""}
            near = ", ".join(difflib.get_close_matches(op, names, 3, 0.6))
            hint = "; another opset has it" if op in names else f"; nearest: {near}" if near else ""
            raise EdgekitError(f"{where} uses the operator '{shown(op)}', which opset {version} of ONNX does not have{hint}")


def _check_values(proto: Any, where: str) -> None:
    _check_graph(proto.graph, [], where, outer=True)
    for f in proto.functions:
        made = set(f.input)
        for node in f.node:
            made.update(node.output)
        lost = next((n for n in f.output if n not in made), None)
        if lost is not None:
            raise Broken(f"{where}: nothing in the function {shown(f.name)} makes its output '{shown(lost)}'")


def _check_graph(graph: Any, scopes: list[set[str]], where: str, *, outer: bool = False) -> None:
    """Every value is made once, before it is read."""
    known: set[str] = set()
    for kind, names in (("initializer", [t.name for t in graph.initializer] + [s.values.name for s in graph.sparse_initializer]),
                        ("input", [v.name for v in graph.input])):  # fmt: skip
        twice = _first_twice(names)
        if twice is not None:
            raise Broken(f"{where} has two {kind}s called '{shown(twice)}'; refused")
        known.update(names)
    if not graph.output:
        raise Broken(f"{where} has a graph without outputs inside a node; refused")
    twice = _first_twice([v.name for v in graph.output])
    if twice is not None and outer:
        raise Broken(f"{where} gives the output '{shown(twice)}' twice; refused")
    inside = [*scopes, known]
    for node in graph.node:
        for name in node.input:
            if name and not any(name in s for s in inside):
                raise Broken(f"{where}: {_who(node)} reads '{shown(name)}', {_why_unknown(name, graph)}")
        for a in node.attribute:
            for g in (*([a.g] if a.HasField("g") else []), *a.graphs):
                _check_graph(g, inside, where)
        for name in node.output:
            if name and name in known:
                raise Broken(f"{where}: {_who(node)} gives '{shown(name)}', which is there already; a value is made once")
            known.add(name)
    lost = next((v.name for v in graph.output if v.name not in known and not any(v.name in s for s in scopes)), None)
    if lost is not None:
        raise Broken(f"{where}: nothing makes the output '{shown(lost)}'; export it again")


def _why_unknown(name: str, graph: Any) -> str:
    makers = {out: i for i, node in enumerate(graph.node) for out in node.output}
    if name not in makers:
        return "which nothing makes; export it again"
    reads = {i: {makers[n] for n in node.input if n in makers} for i, node in enumerate(graph.node)}
    seen, pending = set[int](), [makers[name]]
    while pending:  # does the maker of `name` wait for a reader of `name`?
        at = pending.pop()
        if name in graph.node[at].input:
            return "which waits for itself: the graph has a circle"
        pending += reads[at] - seen
        seen |= reads[at]
    return "before it is made; nodes must be in the order in which they run"


def _first_twice(names: list[str]) -> str | None:
    seen = set[str]()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _check_scales(proto: Any, where: str) -> None:
    """Scales of a quantisation that are known are above 0 and finite, and weights are finite."""
    constants = _constants(proto)
    finite: dict[str, bool] = {}
    for body, _ in bodies(proto):
        for node in body.node:
            for k in SCALES.get(node.op_type, ()):
                values = constants.get(node.input[k]) if k < len(node.input) else None
                if values is not None and values.size and not (np.isfinite(values).all() and (values > 0).all()):
                    raise Broken(f"{where}: {_who(node)} has a scale of {float(np.min(values)):g}; a scale is above 0 and finite; quantise it again")
            for name in node.input if node.op_type in WEIGHTED else ():
                if name in constants and not finite.setdefault(name, _finite(constants[name])):
                    raise Broken(f"{where}: '{shown(name)}', a weight of {_who(node)}, holds infinite values; train or export it again")


def _constants(proto: Any) -> dict[str, np.ndarray]:
    """The float values that are known by name: initializers, and what Constant nodes give."""
    found: dict[str, np.ndarray | None] = {}
    for body, _ in bodies(proto):
        found |= {t.name: floats_of(t) for t in getattr(body, "initializer", ())}
        for node in body.node:
            for a in node.attribute if node.op_type == "Constant" and len(node.output) else ():
                if a.name in ("value_float", "value_floats"):
                    found[node.output[0]] = np.array(a.floats or [a.f])
                elif a.name == "value":
                    found[node.output[0]] = floats_of(a.t)
    return {name: values for name, values in found.items() if values is not None}


def _finite(values: np.ndarray) -> bool:
    return not values.size or (math.isfinite(float(values.min())) and math.isfinite(float(values.max())))


def first_random(proto: Any) -> str:
    """The first node that draws random numbers, as an error names it; empty when there is none."""
    return next((_who(n) for body, _ in bodies(proto) for n in body.node if n.op_type in RANDOM and n.domain in DOMAINS), "")


def _who(node: Any) -> str:
    named = f" '{shown(node.name)}'" if node.name else ""
    return f"the node{named} ({shown(node.op_type, 40)})"
