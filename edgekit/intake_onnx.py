"""A foreign ONNX file: checked before a native engine sees it, made one file, constants and fixed sizes put in."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import files
from edgekit.bundle import Golden, GoldenNote
from edgekit.environment import sizes_of
from edgekit.errors import Broken, EdgekitError
from edgekit.intake import Own, Wishes, allowed_of, check_names, key_of, model_of, plan
from edgekit.intake_golden import Drawn, Final, Step, answers, first_taken, golden_inputs
from edgekit.parts import Arrays
from edgekit.signature import DTYPES, Signature, Tensor

MOST_BYTES = 2_000_000_000  # a serialized message cannot be larger
DOMAINS = ("", "ai.onnx")  # operators of the standard; others need code that a device may not have
TRIAL_LIMIT_S = 120

Shapes = list[tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]]  # of the inputs and the outputs of each call


def read_onnx(path: Path, wishes: Wishes) -> Own:
    """The file as a model with its golden answers, which ONNX Runtime computes with all optimisations off."""
    raw = _bytes_of(path)
    proto = _parsed(path, raw)
    _inline_external(path, proto)
    _check_standard(path, proto)
    _put_plainly(proto)
    original = _signature(path, proto)
    check_names(original, wishes, wishes.states)
    if wishes.constants or wishes.sizes or wishes.chunks:
        _specialise(path, proto, original, wishes)
    graph = _signature(path, proto)
    left = Wishes(**{**vars(wishes), "constants": {n: v for n, v in wishes.constants.items() if n in {t.name for t in graph.inputs}}})
    signature, program = plan(graph, left, wishes.states, {})
    whole = proto.SerializeToString(deterministic=True)
    calls: Shapes = []

    def answers_of(drawn: Drawn) -> tuple[Golden, ...]:
        calls.clear()
        step = _reference(path, whole, graph, signature, drawn.inputs, calls)
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
    import onnxruntime

    key = key_of(hashlib.sha256(raw).hexdigest(), wishes)
    return Own(
        name=path.stem, sha256=key, model=model_of(signature, program, {}, _fast(whole, graph), wishes, key), signature=signature, program=program,
        graphs={"main": graph}, tensors={}, allowed=allowed_of(goldens, wishes.tolerance), answers=goldens, onnx_bytes=whole,
        golden_note=GoldenNote(f"onnxruntime {onnxruntime.__version__} without optimisations, step by step", origin),
    )  # fmt: skip


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


def _bytes_of(path: Path) -> bytes:
    try:
        info = path.stat()
    except OSError as error:
        raise EdgekitError(f"cannot read {path}: {error.strerror}") from None
    if not stat.S_ISREG(info.st_mode):
        raise EdgekitError(f"{path} is {'a folder' if stat.S_ISDIR(info.st_mode) else 'no regular file'}, not an ONNX file")
    if not info.st_size:
        raise Broken(f"{path} is empty; get it again")
    if info.st_size > MOST_BYTES:
        raise EdgekitError(f"{path} has {info.st_size / 1e9:.1f} GB, models up to 2 GB are taken")
    raw = path.read_bytes()
    start = raw[:200].lstrip().lower()
    if raw.startswith(b"version https://git-lfs"):
        raise Broken(f"{path} is a git-lfs pointer, not the model; run `git lfs pull`")
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise Broken(f"{path} is a web page, not a model; the download went wrong, get it again")
    return raw


def _parsed(path: Path, raw: bytes) -> Any:
    import onnx

    try:
        proto = onnx.load_from_string(raw)
    except Exception as error:  # protobuf's own types
        raise Broken(f"{path} is no ONNX file, or not all of one ({type(error).__name__}); get it again") from None
    if not proto.graph.node or not proto.graph.output:
        raise Broken(f"{path} holds no graph with nodes and outputs; it is no ONNX model, or not all of one")
    newest = onnx.defs.onnx_opset_version()
    written = max((o.version for o in proto.opset_import if o.domain in DOMAINS), default=0)
    if written > newest:
        raise EdgekitError(f"{path} uses opset {written}, this edgekit knows up to {newest}; export it with an older one")
    return proto


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and all graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner)


def _tensors(proto: Any) -> Iterator[Any]:
    for graph in _graphs(proto.graph):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for a in node.attribute:
                yield from (*([a.t] if a.HasField("t") else []), *a.tensors)
                for sparse in (*([a.sparse_tensor] if a.HasField("sparse_tensor") else []), *a.sparse_tensors):
                    yield from (sparse.values, sparse.indices)
    for function in proto.functions:
        for node in function.node:
            for a in node.attribute:
                yield from (*([a.t] if a.HasField("t") else []), *a.tensors)


def _inline_external(path: Path, proto: Any) -> None:
    """Read data that lies in other files into the model; only regular files of the model's own folder."""
    import onnx

    root, total = path.resolve().parent, 0
    for t in _tensors(proto):
        if t.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entry = {e.key: e.value for e in t.external_data}
        place = root / entry.get("location", "")
        try:
            real = place.resolve(strict=True)
            info = real.stat()
            offset, length = int(entry.get("offset", 0)), int(entry.get("length", -1))
        except (OSError, ValueError) as error:
            raise Broken(f"{path} keeps data in {entry.get('location', 'a file without a name')}, which cannot be read ({error})") from None
        if not real.is_relative_to(root) or place.is_symlink() or not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
            raise Broken(f"{path} keeps data in {entry['location']}, which is no plain file of the model's own folder; refused")
        need = int(np.prod(t.dims, dtype=object)) * onnx.helper.tensor_dtype_to_np_dtype(t.data_type).itemsize
        length = need if length < 0 else length
        total += length
        if offset < 0 or length != need or offset + length > info.st_size or total > MOST_BYTES:
            raise Broken(f"{path}: '{t.name}' takes {need} bytes, but its data in {entry['location']} has other bounds")
        with real.open("rb") as file:
            file.seek(offset)
            t.raw_data = file.read(length)
        del t.external_data[:]
        t.data_location = onnx.TensorProto.DEFAULT


def _check_standard(path: Path, proto: Any) -> None:
    import onnx

    odd = {f"{n.domain}.{n.op_type}" for g in _graphs(proto.graph) for n in g.node if n.domain not in DOMAINS}
    own = {f"{f.domain}.{f.name}" for f in proto.functions}
    if odd - own:
        raise EdgekitError(f"{path} uses operators outside the ONNX standard: {', '.join(sorted(odd - own))}; export it without them")
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise Broken(f"{path} is no valid ONNX model: {first.strip()[:300]}") from None


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
        return Tensor(v.name, dtype, tuple(shape))

    return Signature(tuple(made(v) for v in proto.graph.input), tuple(made(v) for v in proto.graph.output))


def _specialise(path: Path, proto: Any, graph: Signature, wishes: Wishes) -> None:
    """Put constants, fixed sizes and windows into the graph and fold what follows from them: an If on a constant goes.

    ONNX Runtime's basic level does the folding; it keeps to the operators of the standard.
    """
    import onnx
    import onnxruntime as ort

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
    with tempfile.TemporaryDirectory(prefix="edgekit-fold-") as folder:
        options = _quiet(ort)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        try:
            ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
            folded = onnx.load(options.optimized_model_filepath)
        except Exception as error:
            raise Broken(f"{path} does not open with these constants and sizes: {str(error).splitlines()[0][:300]}") from None
    for v in folded.graph.output:  # where nothing was inferred, what the file said still holds
        if not v.type.tensor_type.HasField("shape"):
            v.CopyFrom(onnx.helper.make_tensor_value_info(v.name, v.type.tensor_type.elem_type, said[v.name]))
    used = {n.domain for g in _graphs(folded.graph) for n in g.node}
    if not used <= set(DOMAINS):
        raise EdgekitError(f"{path}: folding the constants brought in operators of {', '.join(used - set(DOMAINS))}; a defect in edgekit")
    kept_sets = [o for o in folded.opset_import if o.domain in DOMAINS]
    del folded.opset_import[:]
    folded.opset_import.extend(kept_sets)
    proto.CopyFrom(folded)


def _quiet(ort: Any) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return options


def _reference(
    path: Path, model: bytes, graph: Signature, signature: Signature, inputs: Sequence[Arrays], calls: Shapes
) -> Callable[[Arrays], dict[str, np.ndarray]]:
    """One step by ONNX Runtime without optimisations, after a child process has tried it: a foreign file may crash it."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory(prefix="edgekit-trial-") as folder:
        (Path(folder) / "model.onnx").write_bytes(model)
        for i, values in enumerate(inputs):
            sizes = sizes_of(signature, values)
            zeros = {t.name: np.zeros([sizes.get(n, 1) if isinstance(n, str) else n for n in t.shape], t.dtype) for t in graph.inputs}
            fitting = {n: values[n] for n, z in zeros.items() if n in values and values[n].shape == z.shape}
            files.save_tensors(Path(folder) / f"inputs-{i}.safetensors", {**zeros, **fitting})
        _try(path, Path(folder))
    options = _quiet(ort)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [t.name for t in graph.outputs]

    def step(values: Arrays) -> dict[str, np.ndarray]:
        try:
            found = dict(zip(names, session.run(names, dict(values)), strict=True))
        except Exception as error:
            raise Broken(f"{path} fails on the golden inputs: {str(error).splitlines()[0][:300]}") from None
        calls.append(({n: v.shape for n, v in values.items()}, {n: v.shape for n, v in found.items()}))
        return found

    return step


def _fast(model: bytes, graph: Signature) -> Step:
    """One step by ONNX Runtime as it usually runs: for a score over many samples."""
    import onnxruntime as ort

    session = ort.InferenceSession(model, _quiet(ort), providers=["CPUExecutionProvider"])
    names = [t.name for t in graph.outputs]
    return lambda values: dict(zip(names, session.run(names, dict(values)), strict=True))


_TRIAL = """
import sys, onnxruntime as ort
from safetensors.numpy import load_file
o = ort.SessionOptions(); o.log_severity_level = 4
o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
try:
    session = ort.InferenceSession(sys.argv[1], o, providers=["CPUExecutionProvider"])
    for inputs in sys.argv[2:]:
        session.run(None, load_file(inputs))
except Exception as error:
    sys.exit(str(error).splitlines()[0][:300])
"""


def _try(path: Path, folder: Path) -> None:
    command = [sys.executable, "-c", _TRIAL, str(folder / "model.onnx"), *map(str, sorted(folder.glob("*.safetensors")))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TRIAL_LIMIT_S, check=False, env=dict(os.environ))
    except subprocess.TimeoutExpired:
        raise Final(f"{path} does not come to an end: one run took more than {TRIAL_LIMIT_S} s") from None
    if done.returncode < 0:
        raise Broken(f"{path} crashes ONNX Runtime (signal {-done.returncode}); it is not opened here")
    if done.returncode:
        raise Broken(f"{path} does not run: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
