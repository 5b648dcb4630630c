"""A user's torch module, or a saved torch.export program; buffers that it changes become states of a stream."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib
import inspect
import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.bundle import GoldenNote
from edgekit.errors import Broken, EdgekitError, Missing
from edgekit.intake import Own, Wishes, allowed_of, key_of, plan
from edgekit.intake_golden import answers, golden_inputs
from edgekit.parts import Arrays
from edgekit.signature import DTYPES, Signature, Tensor

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

    was_training = module.training and not isinstance(module, torch.fx.GraphModule)  # a saved program has no mode
    module = copy.deepcopy(module).eval()
    named = _named(module, inputs)
    free = _free(dynamic, list(named), named)
    with _quiet(), torch.no_grad():
        found = _outputs(copy.deepcopy(module)(**named))
        changed = _changed_buffers(module, named)
    buffers = dict(module.named_buffers())
    graph = Signature(
        (*(_tensor(n, v, free.get(n, {})) for n, v in named.items()), *(_tensor(_flat(b), buffers[b], {}) for b in changed)),
        (*(_tensor(n, v, _kept(v, named, free)) for n, v in found.items()),
         *(_tensor(f"{_flat(b)}_next", buffers[b], {}) for b in changed)),
    )  # fmt: skip
    held = {**wishes.states, **{f"{_flat(b)}_next": _flat(b) for b in changed}}
    initial = {_flat(b): buffers[b].detach().numpy() for b in changed}
    tensors = {**initial, **{n: np.asarray(v).astype(graph_dtype(graph, n)).reshape(graph_shape(graph, n)) for n, v in wishes.constants.items()}}
    signature, program = plan(graph, wishes, held, initial)
    values, origin = golden_inputs(signature, program, wishes.example)
    step = _step(module, list(named), changed)
    goldens = tuple(answers(program, signature, tensors, v, step) for v in values)
    note = f"torch {torch.__version__}, eager, step by step" + (" (the module was in training mode; set to eval)" if was_training else "")
    return Own(
        name=name, sha256=key_of(sha256 or _weights(module), wishes), signature=signature, program=program, graphs={"main": graph},
        tensors=tensors, allowed=allowed_of(goldens, wishes.tolerance), golden_note=GoldenNote(note, origin), answers=goldens,
        torch_module=_positional(module, list(named), changed),
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


def _saved(path: Path) -> tuple[Any, Any, Any]:
    import torch

    if not path.is_file():
        raise EdgekitError(f"there is no file {path}")
    try:
        with _quiet():
            program = torch.export.load(path)
            module = program.module()
    except Exception as error:
        raise Broken(f"{path} is no torch.export file ({type(error).__name__}: {str(error).splitlines()[0][:200]})") from None
    if program.example_inputs is None:
        raise EdgekitError(f"{path} holds no example inputs; save it with those that it was exported with")
    positional, by_name = program.example_inputs
    names = list(program.graph_signature.user_inputs)
    values = [*positional, *by_name.values()]
    dynamic: dict[str, dict[int, str]] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in names:
            dynamic[node.name] = {i: str(n) for i, n in enumerate(node.meta["val"].shape) if not isinstance(n, int)}
    module.eval = lambda: module  # type: ignore[method-assign]  # a saved program has one mode
    return module, dict(zip(names, values, strict=True)), dynamic


def _named(module: torch.nn.Module, inputs: Any) -> dict[str, torch.Tensor]:
    import torch

    if isinstance(inputs, torch.Tensor):
        inputs = (inputs,)
    if isinstance(inputs, Mapping):
        named = dict(inputs)
    else:
        names = [p.name for p in inspect.signature(module.forward).parameters.values() if p.kind == p.POSITIONAL_OR_KEYWORD]
        if len(names) < len(inputs):
            raise EdgekitError(
                f"forward takes {names or 'tensors without names'}, but {len(inputs)} example inputs were given; "
                "give them as a dict by name"
            )
        named = dict(zip(names, inputs, strict=False))
    for name, v in named.items():
        if not isinstance(v, torch.Tensor):
            raise EdgekitError(f"the example input '{name}' must be a tensor, found {type(v).__name__}")
    if not named:
        raise EdgekitError("the example inputs are empty; a model needs at least one input")
    return named


def _free(dynamic: Any, names: list[str], values: Mapping[str, torch.Tensor]) -> dict[str, dict[int, str]]:
    """{input: {axis: name}} from what torch.export takes: dicts of names, of Dims, or tuples in order."""
    if not dynamic:
        return {}
    by_name = dict(zip(names, dynamic, strict=False)) if isinstance(dynamic, (tuple, list)) else dict(dynamic)
    made: dict[str, dict[int, str]] = {}
    for name, axes in by_name.items():
        if name not in names:
            raise EdgekitError(f"free sizes were given for '{name}', but the inputs are {', '.join(names)}")
        items = enumerate(axes) if isinstance(axes, (tuple, list)) else (axes or {}).items()
        made[name] = {int(i): getattr(n, "__name__", str(n)) for i, n in items if n is not None}
        for axis in made[name]:
            if not 0 <= axis < values[name].ndim:
                raise EdgekitError(f"'{name}' has {values[name].ndim} axes; axis {axis} cannot be free")
    return made


def _outputs(found: Any) -> dict[str, torch.Tensor]:
    import torch

    if isinstance(found, torch.Tensor):
        return {"output": found}
    named = dict(found) if isinstance(found, Mapping) else {f"output_{i}": v for i, v in enumerate(found)}
    for name, v in named.items():
        if not isinstance(v, torch.Tensor):
            raise EdgekitError(f"the model's '{name}' is a {type(v).__name__}; outputs must be tensors, in a tuple or by name in a dict")
    return named


def _tensor(name: str, v: torch.Tensor, free: Mapping[int, str]) -> Tensor:
    dtype = str(v.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise EdgekitError(f"'{name}' is {dtype}, which bundles do not hold; they hold {', '.join(DTYPES)}")
    return Tensor(name, dtype, tuple(free.get(i, int(n)) for i, n in enumerate(v.shape)))


def _kept(v: torch.Tensor, named: Mapping[str, torch.Tensor], free: Mapping[str, Mapping[int, str]]) -> dict[int, str]:
    """Axes of an output whose size is that of a free axis, and of no other input axis."""
    sizes: dict[int, set[str]] = {}
    for name, value in named.items():
        for i, n in enumerate(value.shape):
            sizes.setdefault(int(n), set()).add(free.get(name, {}).get(i, ""))
    all_free = {n for axes in free.values() for n in axes.values()}
    return {i: f"size_{i}" if sizes.get(int(n)) is None or len(sizes[int(n)]) > 1 else next(iter(sizes[int(n)]))
            for i, n in enumerate(v.shape) if all_free and sizes.get(int(n), {""}) != {""}}  # fmt: skip


def _changed_buffers(module: torch.nn.Module, named: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of the buffers that forward changes. torch.onnx would freeze them without a word."""
    import torch

    live = copy.deepcopy(module)
    before = {n: (b, b._version) for n, b in live.named_buffers()}
    live(**named)
    after = dict(live.named_buffers())
    # torch.export sees writes in place, but not a buffer that is set anew; an eager call shows both, on this input.
    seen = {n for n, (b, version) in before.items() if n in after and (after[n] is not b or after[n]._version != version)}
    try:
        exported = torch.export.export(copy.deepcopy(module), (), dict(named))
        # Empty before the decompositions, so it must be read after them.
        return sorted(seen | set(exported.run_decompositions({}).graph_signature.buffers_to_mutate.values()))
    except Exception as error:
        first = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        raise EdgekitError(f"torch.export cannot trace the model: {type(error).__name__}: {first.strip()[:300]}") from None


def _flat(buffer: str) -> str:
    return PREFIX + buffer.replace(".", "_")


def _positional(module: torch.nn.Module, names: list[str], changed: list[str]) -> torch.nn.Module:
    """forward(inputs..., buffers...) -> (outputs..., buffers afterwards...), with nothing changed inside."""
    import torch

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            named = dict(zip(names, tensors, strict=False))
            if not changed:
                return tuple(_outputs(self.inner(**named)).values())
            buffers = {b: v.clone() for b, v in zip(changed, tensors[len(names) :], strict=True)}
            found = torch.func.functional_call(self.inner, buffers, (), named)
            return (*_outputs(found).values(), *(buffers[b] for b in changed))

    return Positional().eval()


def _step(module: torch.nn.Module, names: list[str], changed: list[str]) -> Callable[[Arrays], dict[str, np.ndarray]]:
    """One eager call of the module itself; its buffers are written before and read after."""
    import torch

    def step(values: Arrays) -> dict[str, np.ndarray]:
        own = copy.deepcopy(module)
        with torch.no_grad():
            for b in changed:
                owner, _, leaf = b.rpartition(".")
                setattr(own.get_submodule(owner), leaf, torch.from_numpy(values[_flat(b)].copy()))
            found = _outputs(own(**{n: torch.from_numpy(np.require(values[n], requirements=("C", "W"))) for n in names}))
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
