"""A user's torch module, or a saved torch.export program; buffers that it changes become states of a stream."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib
import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.bundle import Golden, GoldenNote
from edgekit.errors import Broken, EdgekitError, Missing
from edgekit.intake import Own, Wishes, allowed_of, key_of, model_of, plan
from edgekit.intake_golden import Drawn, answers, first_taken, golden_inputs
from edgekit.parts import Arrays
from edgekit.signature import DTYPES, Signature, Tensor
from edgekit.torch_calls import Call, Named, call_of, free_axes, leaves, outputs_of, resized

if TYPE_CHECKING:
    import torch

PREFIX = "buffer_"  # of the graph inputs and outputs that a module's own buffers become


def read_torch(source: str, wishes: Wishes) -> Own:
    """A `.pt2` file or `module:function`; golden answers by torch, eager, step by step."""
    _need_torch()
    import torch

    if source.endswith(".pt2"):
        return read_module(*_saved(Path(source)), wishes, name=Path(source).stem, sha256=_hash(Path(source)))
    module, inputs, dynamic = _called(source)
    return read_module(module, inputs, dynamic, wishes, name=source.split(":")[1], sha256=_weights(module) + torch.__version__)


def read_module(
    module: torch.nn.Module, inputs: Any, dynamic: Any, wishes: Wishes, name: str = "model", sha256: str = ""
) -> Own:
    """A module with example inputs (tuple, or dict by name) and, where sizes are free, {input: {axis: name}}."""
    _need_torch()
    import torch

    with _quiet(), torch.no_grad():
        return _read(module, inputs, dynamic, wishes, name, sha256)


def _read(module: torch.nn.Module, inputs: Any, dynamic: Any, wishes: Wishes, name: str, sha256: str) -> Own:
    import torch

    was_training = module.training and not isinstance(module, torch.fx.GraphModule)  # a saved program has no mode
    module = copy.deepcopy(module).eval()
    call = inputs if isinstance(inputs, Call) else call_of(module, inputs)
    named, free = _sized(call.tensors(), free_axes(dynamic, call), wishes)
    found = _outputs(module, call, named)
    _check_repeats(module, call, named, found)
    changed = _changed_buffers(module, call, named)
    kept = _free_outputs(module, call, named, free, found)
    buffers = dict(module.named_buffers())
    graph = Signature(
        (*(_tensor(n, v, free.get(n, {})) for n, v in named.items()), *(_tensor(_flat(b), buffers[b], {}) for b in changed)),
        (*(_tensor(n, v, kept.get(n, {})) for n, v in found.items()),
         *(_tensor(f"{_flat(b)}_next", buffers[b], {}) for b in changed)),
    )  # fmt: skip
    held = {**wishes.states, **{f"{_flat(b)}_next": _flat(b) for b in changed}}
    initial = {_flat(b): buffers[b].detach().numpy() for b in changed}
    tensors = {**initial, **{n: np.asarray(v).astype(graph_dtype(graph, n)).reshape(graph_shape(graph, n)) for n, v in wishes.constants.items()}}
    signature, program = plan(graph, wishes, held, initial)
    step = _step(module, call, changed)

    def answers_of(drawn: Drawn) -> tuple[Golden, ...]:
        return tuple(answers(program, signature, tensors, v, step) for v in drawn.inputs)

    own = {n: v.detach().numpy() for n, v in named.items()}
    goldens, origin = first_taken(golden_inputs(signature, program, wishes.example, own, wishes.calibration), answers_of)
    note = f"torch {torch.__version__}, eager, step by step" + (" (the module was in training mode; set to eval)" if was_training else "")
    sizes = {n: max(2, int(named[t].shape[i])) for t, axes in free.items() for i, n in axes.items()}
    key = key_of(sha256 or _weights(module), wishes)
    return Own(
        name=name, sha256=key, model=model_of(signature, program, tensors, step, wishes, key), signature=signature, program=program,
        graphs={"main": graph}, tensors=tensors, allowed=allowed_of(goldens, wishes.tolerance), golden_note=GoldenNote(note, origin), answers=goldens,
        torch_module=_positional(module, call, list(named), changed), torch_sizes=sizes,
    )  # fmt: skip


def graph_dtype(graph: Signature, name: str) -> str:
    """The dtype of a graph input."""
    return next((t.dtype for t in graph.inputs if t.name == name), "float32")


def graph_shape(graph: Signature, name: str) -> tuple[int, ...]:
    """The shape of a graph input that is given as a constant; it must hold one number."""
    shape = next((t.shape for t in graph.inputs if t.name == name), ())
    if any(n != 1 for n in shape):
        raise EdgekitError(f"--constant {name} gives one number, but the input is {list(shape)}")
    return tuple(int(n) for n in shape)


def _need_torch() -> None:
    from edgekit.registry import missing_modules

    absent = missing_modules(("torch", "onnxscript"))
    if absent:
        raise Missing(f"a torch model needs {', '.join(absent)}, not installed here: pip install 'edgekit[train]'")


def _called(source: str) -> tuple[Any, Any, Any]:
    """What module:function returns: (module, example inputs) or (module, example inputs, free sizes)."""
    import torch

    where, function = source.split(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        made = getattr(importlib.import_module(where), function)
    except ModuleNotFoundError as error:
        raise EdgekitError(f"{source}: there is no module '{error.name}' on Python's path or in this folder") from None
    except AttributeError:
        raise EdgekitError(f"{source}: the module '{where}' has no function '{function}'") from None
    found = made()
    if not isinstance(found, tuple) or len(found) not in (2, 3) or not isinstance(found[0], torch.nn.Module):
        raise EdgekitError(f"{source} must return (nn.Module, example inputs) or (nn.Module, example inputs, free sizes)")
    return (*found, None) if len(found) == 2 else found


def _saved(path: Path) -> tuple[Any, Call, Any]:
    import torch

    try:
        with _quiet():
            program = torch.export.load(path)
            module = program.module()
    except Exception as error:
        raise Broken(f"{path} is no torch.export file ({_first_line(error)})") from None
    if program.example_inputs is None:
        raise EdgekitError(f"{path} holds no example inputs; save it with those that it was exported with")
    args, kwargs = program.example_inputs
    # torch names the tensors inside of 'state' state_0 and state_1, as leaves() does.
    flat = list(program.graph_signature.user_inputs)
    values = [v for i, a in enumerate(args) for _, v in leaves(str(i), a)] + [v for k, a in kwargs.items() for _, v in leaves(k, a)]
    if len(flat) != len(values):
        raise EdgekitError(f"{path} was exported with inputs that are no tensors ({flat}); export it with tensors alone")
    arg_names, at = [], 0
    for arg in args:
        count = sum(1 for _ in leaves("", arg))
        arg_names.append(flat[at] if isinstance(arg, torch.Tensor) else flat[at].rpartition("_")[0] if count else f"arg_{at}")
        at += count
    call = Call(tuple(arg_names), tuple(args), dict(kwargs))
    dynamic: dict[str, dict[int, str]] = {}
    placeholders = {n.name: n for n in program.graph.nodes if n.op == "placeholder"}
    for name, source in zip(call.tensors(), flat, strict=True):
        shape = placeholders[source].meta["val"].shape
        dynamic[name] = {i: str(n) for i, n in enumerate(shape) if not str(n).isdigit()}
    module.eval = lambda: module  # type: ignore[method-assign]  # a saved program has one mode
    return module, call, dynamic


def _sized(named: Named, free: dict[str, dict[int, str]], wishes: Wishes) -> tuple[Named, dict[str, dict[int, str]]]:
    """Example inputs and free axes once the sizes that the user fixed are fixed."""
    known = {n for axes in free.values() for n in axes.values()}
    for name in wishes.sizes:
        if name not in known:
            raise EdgekitError(f"--size {name}: no such free dimension; there are: {', '.join(sorted(known)) or 'none'}")
    for tensor, axes in free.items():
        for axis, name in list(axes.items()):
            feed = wishes.chunks.get(tensor)
            size = feed.window if feed is not None and feed.axis == axis and feed.window else wishes.sizes.get(name)
            if size is not None:
                named[tensor] = resized(named[tensor], axis, size)
                del axes[axis]
    return named, {t: axes for t, axes in free.items() if axes}


def _outputs(module: torch.nn.Module, call: Call, named: Mapping[str, torch.Tensor]) -> Named:
    """One eager call on copies: nothing that the module changes is changed here."""
    try:
        return outputs_of(call.of(copy.deepcopy(module), {n: v.clone() for n, v in named.items()}))
    except EdgekitError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{n} {list(v.shape)}" for n, v in named.items())
        raise EdgekitError(f"the model fails on {shapes}: {_first_line(error)}") from None


def _check_repeats(module: torch.nn.Module, call: Call, named: Named, found: Named) -> None:
    """Refuse a model that draws noise of its own, or remembers something that is neither input nor buffer."""
    if _differing(found, _outputs(module, call, named)):
        raise EdgekitError(
            "the model gives other answers when it is called again: it draws random numbers inside; make them an input of forward"
        )
    live = copy.deepcopy(module)
    call.of(live, {n: v.clone() for n, v in named.items()})
    for name, buffer in module.named_buffers():
        owner, _, leaf = name.rpartition(".")
        setattr(live.get_submodule(owner), leaf, buffer.clone())
    if _differing(found, outputs_of(call.of(live, {n: v.clone() for n, v in named.items()}))):
        raise EdgekitError(
            "the model remembers something between calls that is no buffer, such as a plain attribute; "
            "register it with register_buffer, or take it in and give it back"
        )


def _differing(a: Named, b: Named) -> bool:
    import torch

    return any(not torch.equal(v.nan_to_num() if v.is_floating_point() else v, b[n].nan_to_num() if v.is_floating_point() else b[n])
               for n, v in a.items())  # fmt: skip


def _free_outputs(
    module: torch.nn.Module, call: Call, named: Named, free: Mapping[str, Mapping[int, str]], found: Named
) -> dict[str, dict[int, str]]:
    """Which axes of the outputs follow which free size: each size in turn is made another one, eagerly."""
    followers: dict[str, dict[int, set[str]]] = {out: {} for out in found}
    exact: dict[str, dict[int, str]] = {out: {} for out in found}
    base = {n: int(named[t].shape[i]) for t, axes in free.items() for i, n in axes.items()}
    for name, size in base.items():
        other, grown = _at_another_size(module, call, named, free, name, size)
        for out, v in grown.items():
            if v.ndim != found[out].ndim:
                raise EdgekitError(f"'{out}' has {found[out].ndim} axes when '{name}' is {size} and {v.ndim} when it is {other}")
            for axis, (before, after) in enumerate(zip(found[out].shape, v.shape, strict=True)):
                if before != after:
                    followers[out].setdefault(axis, set()).add(name)
                    if before == size and after == other:
                        exact[out][axis] = name
    return {
        out: {i: exact[out][i] if len(names) == 1 and i in exact[out] else f"{out}_{i}" for i, names in axes.items()}
        for out, axes in followers.items()
    }


def _at_another_size(
    module: torch.nn.Module, call: Call, named: Named, free: Mapping[str, Mapping[int, str]], name: str, size: int
) -> tuple[int, Named]:
    said = ""
    for other in (2 * size, 3 * size, size // 2):
        if other < 1:
            continue
        tensors = dict(named)
        for t, axes in free.items():
            for axis, n in axes.items():
                if n == name:
                    tensors[t] = resized(tensors[t], axis, other)
        try:
            return other, _outputs(module, call, tensors)
        except EdgekitError as error:
            said = said or str(error)
    raise EdgekitError(f"the size '{name}' is said to be free, but the model takes none but {size}; {said}")


def _tensor(name: str, v: torch.Tensor, free: Mapping[int, str]) -> Tensor:
    dtype = str(v.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise EdgekitError(f"'{name}' is {dtype}, which bundles do not hold; they hold {', '.join(DTYPES)}")
    return Tensor(name, dtype, tuple(free.get(i, int(n)) for i, n in enumerate(v.shape)))


def _changed_buffers(module: torch.nn.Module, call: Call, named: Named) -> list[str]:
    """Names of the buffers that forward changes. torch.onnx would freeze them without a word."""
    import torch

    live = copy.deepcopy(module)
    before = {n: (b, b._version) for n, b in live.named_buffers()}
    call.of(live, {n: v.clone() for n, v in named.items()})
    after = dict(live.named_buffers())
    # torch.export sees writes in place, but not a buffer that is set anew; an eager call shows both, on this input.
    seen = {n for n, (b, version) in before.items() if n in after and (after[n] is not b or after[n]._version != version)}
    try:
        exported = torch.export.export(_positional(copy.deepcopy(module), call, list(named), []), tuple(named.values()))
        # Empty before the decompositions, so it must be read after them.
        mutated = exported.run_decompositions({}).graph_signature.buffers_to_mutate.values()
    except Exception as error:
        raise EdgekitError(f"torch.export cannot trace the model: {_first_line(error)}") from None
    return sorted(seen | {n.removeprefix("inner.") for n in mutated})


def _first_line(error: Exception) -> str:
    first = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
    return f"{type(error).__name__}: {first.strip()[:300]}"


def _flat(buffer: str) -> str:
    return PREFIX + buffer.replace(".", "_")


def _positional(module: torch.nn.Module, call: Call, names: list[str], changed: list[str]) -> torch.nn.Module:
    """forward(inputs..., buffers...) -> (outputs..., buffers afterwards...), with nothing changed inside."""
    import torch

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            named = dict(zip(names, tensors, strict=False))
            if not changed:
                return tuple(outputs_of(call.of(self.inner, named)).values())
            buffers = {b: v.clone() for b, v in zip(changed, tensors[len(names) :], strict=True)}
            found = call.of(lambda *args, **kwargs: torch.func.functional_call(self.inner, buffers, args, kwargs), named)
            return (*outputs_of(found).values(), *(buffers[b] for b in changed))

    return Positional().eval()


def _step(module: torch.nn.Module, call: Call, changed: list[str]) -> Callable[[Arrays], dict[str, np.ndarray]]:
    """One eager call of the module itself; its buffers are written before and read after."""
    import torch

    names = list(call.tensors())

    def step(values: Arrays) -> dict[str, np.ndarray]:
        own = copy.deepcopy(module)
        given = {n: torch.from_numpy(np.array(values[n])) for n in names}  # a copy: forward may change its inputs
        with torch.no_grad():
            for b in changed:
                owner, _, leaf = b.rpartition(".")
                setattr(own.get_submodule(owner), leaf, torch.from_numpy(values[_flat(b)].copy()))
            try:
                found = outputs_of(call.of(own, given))
            except EdgekitError:
                raise
            except Exception as error:
                shapes = ", ".join(f"{n} {list(v.shape)}" for n, v in given.items())
                raise EdgekitError(f"the model fails on {shapes}: {_first_line(error)}") from None
            after = dict(own.named_buffers())
        made = {n: v.detach().numpy() for n, v in found.items()}
        return {**made, **{f"{_flat(b)}_next": after[b].detach().numpy().copy() for b in changed}}

    return step


def _weights(module: torch.nn.Module) -> str:
    """A hash of the module's printed form, parameters and buffers."""
    digest = hashlib.sha256(repr(module).encode())
    for name, v in sorted(module.state_dict().items()):
        digest.update(name.encode() + np.ascontiguousarray(v.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
