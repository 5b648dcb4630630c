"""A foreign ONNX file as a model: made one file, constants and fixed sizes put in; answers by the engine that guards it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import limits, untrusted
from edgekit.bundle import Golden, GoldenNote
from edgekit.errors import EdgekitError
from edgekit.intake import Own, Wishes, allowed_of, check_names, key_of, model_of, plan
from edgekit.intake_golden import Drawn, Final, Step, answers, first_taken, golden_inputs
from edgekit.onnx_checks import DOMAINS, first_random
from edgekit.onnx_tensors import bodies
from edgekit.parts import Arrays
from edgekit.plain_text import shown
from edgekit.signature import DTYPES, Signature, Tensor
from edgekit.untrusted import Guarded

Shapes = list[tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]]  # of the inputs and the outputs of each call


def read_onnx(path: Path, wishes: Wishes) -> Own:
    """The file as a model with its golden answers, which ONNX Runtime computes with all optimisations off."""
    sha256, proto = untrusted.read_model(path)
    with untrusted.guarded(path, proto.ByteSize(), wishes.trust) as engine:
        return _read(path, sha256, proto, wishes, engine)


def _read(path: Path, sha256: str, proto: Any, wishes: Wishes, engine: Guarded) -> Own:
    import onnxruntime

    engine.check(proto.SerializeToString())
    _put_plainly(proto)
    original = _signature(path, proto)
    check_names(original, wishes, wishes.states)
    if wishes.constants or wishes.sizes or wishes.chunks:
        _specialise(path, proto, original, wishes, engine)
    if random := first_random(proto):
        raise EdgekitError(f"{path} draws random numbers inside, by {random}; make them an input of the graph")
    graph = _signature(path, proto)
    left = Wishes(**{**vars(wishes), "constants": {n: v for n, v in wishes.constants.items() if n in {t.name for t in graph.inputs}}})
    signature, program = plan(graph, left, wishes.states, {})
    whole = proto.SerializeToString(deterministic=True)
    calls: Shapes = []
    engine.open(whole)
    step = _step(engine, graph, calls)

    def answers_of(drawn: Drawn) -> tuple[Golden, ...]:
        calls.clear()
        made = tuple(answers(program, signature, {}, values, step) for values in drawn.inputs)
        _check_repeats(path, made[0], answers(program, signature, {}, drawn.inputs[0], step))
        return made

    goldens, origin = first_taken(golden_inputs(signature, program, wishes.example, calibration=wishes.calibration), answers_of)
    true = _with_true_outputs(graph, calls)
    if true != graph:
        graph = true
        signature, program = plan(graph, left, wishes.states, {})
        _declare_outputs(proto, graph)
        whole = proto.SerializeToString(deterministic=True)
    if wishes.test:
        engine.open(whole, fast=True)
    key = key_of(sha256, wishes)
    return Own(
        name=path.stem, sha256=key, model=model_of(signature, program, {}, _step(engine, graph, []), wishes, key), signature=signature,
        program=program, graphs={"main": graph}, tensors={}, allowed=allowed_of(goldens, wishes.tolerance), answers=goldens, onnx_bytes=whole,
        golden_note=GoldenNote(f"onnxruntime {onnxruntime.__version__} without optimisations, step by step", origin),
    )  # fmt: skip


def _step(engine: Guarded, graph: Signature, calls: Shapes) -> Step:
    """One step by the engine; the shapes that it sees are kept in `calls`."""
    names = [t.name for t in graph.outputs]

    def step(values: Arrays) -> dict[str, np.ndarray]:
        given = engine.run(values)
        found = {n: given[n] for n in names}
        calls.append(({n: v.shape for n, v in values.items()}, {n: v.shape for n, v in found.items()}))
        return found

    return step


def _check_repeats(path: Path, first: Golden, again: Golden) -> None:
    if any(not np.array_equal(v, again.outputs[n], equal_nan=v.dtype.kind == "f") for n, v in first.outputs.items()):
        raise Final(
            f"{path} gives other answers when it runs again: it draws random numbers inside; make them an input of the graph"
        )


def _with_true_outputs(graph: Signature, calls: Shapes) -> Signature:
    """The graph with outputs as they were seen: exporters write shapes that do not hold, and engines trust them."""
    made = []
    for t in graph.outputs:
        shape = list(t.shape)
        for taken, given in calls:
            sizes = {n: size for i in graph.inputs for n, size in zip(i.shape, taken[i.name], strict=True) if isinstance(n, str)}
            if len(given[t.name]) != len(t.shape):
                shape = [f"{t.name}_{axis}" for axis in range(len(given[t.name]))]
                continue
            for axis, (said, size) in enumerate(zip(t.shape, given[t.name], strict=True)):
                if size != (sizes.get(said, size) if isinstance(said, str) else said):
                    shape[axis] = f"{t.name}_{axis}"
        made.append(Tensor(t.name, t.dtype, tuple(shape), t.meaning))
    return Signature(graph.inputs, tuple(made))


def _declare_outputs(proto: Any, graph: Signature) -> None:
    import onnx

    for v, t in zip(proto.graph.output, graph.outputs, strict=True):
        v.CopyFrom(onnx.helper.make_tensor_value_info(v.name, v.type.tensor_type.elem_type, t.shape))


def _put_plainly(proto: Any) -> None:
    """No input that has a value already, as old files list their weights; no size that only means an unknown one."""
    graph = proto.graph
    constants = {i.name for i in graph.initializer}
    kept = [v for v in graph.input if v.name not in constants]
    del graph.input[:]
    graph.input.extend(kept)
    # -1 and "?" (PaddlePaddle) and 0 (MXNet) are sizes that are not known, nor equal.
    for v in (*graph.input, *graph.output, *graph.value_info):
        for d in v.type.tensor_type.shape.dim:
            if (d.HasField("dim_value") and d.dim_value < 1) or d.dim_param == "?":
                d.Clear()


def _signature(path: Path, proto: Any) -> Signature:
    import onnx

    def made(v: Any) -> Tensor:
        kind = v.type.tensor_type
        try:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        except KeyError:
            dtype = "no tensor"
        if not v.type.HasField("tensor_type") or dtype not in DTYPES:
            raise EdgekitError(f"{path}: '{v.name}' is {dtype}, which bundles do not hold; they hold {', '.join(DTYPES)}")
        if not kind.HasField("shape"):
            raise EdgekitError(f"{path}: '{v.name}' does not say how many axes it has; export the model with shapes")
        shape = [d.dim_value if d.HasField("dim_value") else d.dim_param or f"{v.name}_{k}" for k, d in enumerate(kind.shape.dim)]
        fixed = math.prod(n for n in shape if isinstance(n, int))
        if fixed > limits.MOST_INPUT_VALUES or len(shape) > limits.MOST_RANK:
            raise EdgekitError(f"{path}: '{shown(v.name)}' is {shape[:8]}, {fixed:.3g} values; {limits.MOST_INPUT_VALUES:,} are taken")
        return Tensor(v.name, dtype, tuple(shape))

    return Signature(tuple(made(v) for v in proto.graph.input), tuple(made(v) for v in proto.graph.output))


def _specialise(path: Path, proto: Any, graph: Signature, wishes: Wishes, engine: Guarded) -> None:
    """Put constants, fixed sizes and windows into the graph and fold what follows from them: an If on a constant goes."""
    import onnx

    inputs = {t.name: t for t in graph.inputs}
    for name, number in wishes.constants.items():
        if name in inputs:
            if any(n != 1 for n in inputs[name].shape):
                raise EdgekitError(f"--constant {name} gives one number, but the input is {list(inputs[name].shape)}")
            array = np.full([1] * len(inputs[name].shape), number).astype(inputs[name].dtype)
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    free = {n for t in graph.inputs for n in t.shape if isinstance(n, str)}
    for name in wishes.sizes:
        if name not in free:
            raise EdgekitError(f"--size {name}: no such free dimension; there are: {', '.join(sorted(free)) or 'none'}")
    kept = [v for v in proto.graph.input if v.name not in wishes.constants]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    for v in proto.graph.input:
        for axis, d in enumerate(v.type.tensor_type.shape.dim):
            feed = wishes.chunks.get(v.name)
            if feed is not None and feed.axis == axis and feed.window is not None and not d.HasField("dim_value"):
                d.dim_value = feed.window
            elif d.dim_param in wishes.sizes:
                d.dim_value = wishes.sizes[d.dim_param]
    said = {t.name: [wishes.sizes.get(str(n), n) for n in t.shape] for t in graph.outputs}
    for v in (*proto.graph.output, *proto.graph.value_info):
        v.type.tensor_type.ClearField("shape")  # inferred anew
    folded = engine.fold(proto.SerializeToString())
    for v in folded.graph.output:  # where nothing was inferred, what the file said still holds
        if not v.type.tensor_type.HasField("shape"):
            v.CopyFrom(onnx.helper.make_tensor_value_info(v.name, v.type.tensor_type.elem_type, said[v.name]))
    used = {n.domain for body, _ in bodies(folded) for n in body.node}
    if not used <= set(DOMAINS):
        raise EdgekitError(f"{path}: folding the constants brought in operators of {', '.join(used - set(DOMAINS))}; a defect in edgekit")
    kept_sets = [o for o in folded.opset_import if o.domain in DOMAINS]
    del folded.opset_import[:]
    folded.opset_import.extend(kept_sets)
    proto.CopyFrom(folded)


