"""A torch module's call as tensors by name: containers in its inputs and outputs are flattened, and rebuilt for the call."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.errors import EdgekitError

if TYPE_CHECKING:
    import torch

Named = dict[str, "torch.Tensor"]


@dataclass(frozen=True)
class Call:
    """Example inputs of a module. `args` and `kwargs` keep their containers, and what is no tensor in them: constants."""

    arg_names: tuple[str, ...]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def tensors(self) -> Named:
        """All tensors by name: 'x', or 'state_0' and 'state_1' of a tuple."""
        named: Named = {}
        for name, tensor in self._leaves():
            if name in named:
                raise EdgekitError(f"two inputs would be called '{name}'; rename a parameter of forward")
            named[name] = tensor
        if not named:
            raise EdgekitError("the example inputs hold no tensor; a model needs at least one input")
        return named

    def _leaves(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, value in (*zip(self.arg_names, self.args, strict=True), *self.kwargs.items()):
            yield from leaves(name, value)

    def of(self, module: Callable[..., Any], tensors: Mapping[str, torch.Tensor]) -> Any:
        """Call the module with these tensors in place of the examples."""
        args = [_rebuilt(n, v, tensors) for n, v in zip(self.arg_names, self.args, strict=True)]
        return module(*args, **{n: _rebuilt(n, v, tensors) for n, v in self.kwargs.items()})


def call_of(module: torch.nn.Module, inputs: Any) -> Call:
    """From example inputs as users give them: one tensor, a tuple in the order of forward's parameters, or a dict by name."""
    import torch

    if isinstance(inputs, Mapping):
        return Call((), (), dict(inputs))
    args = (inputs,) if isinstance(inputs, torch.Tensor) else tuple(inputs)
    parameters = inspect.signature(module.forward).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY)]
    if len(names) < len(args):
        rest = next((p.name for p in parameters if p.kind == p.VAR_POSITIONAL), None)
        if rest is None:
            raise EdgekitError(f"forward takes {names or 'no tensors'}, but {len(args)} example inputs were given")
        names += [f"{rest}_{i}" for i in range(len(args) - len(names))]
    return Call(tuple(names[: len(args)]), args, {})


def leaves(name: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in nested tuples, lists and dicts, named by the way to them."""
    import torch

    if isinstance(value, torch.Tensor):
        yield re.sub(r"\W", "_", name), value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(f"{name}_{key}", item)
    elif isinstance(value, (tuple, list)):
        for i, item in enumerate(value):
            yield from leaves(f"{name}_{i}", item)


def _rebuilt(name: str, value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return tensors[re.sub(r"\W", "_", name)]
    if isinstance(value, Mapping):
        return {key: _rebuilt(f"{name}_{key}", item, tensors) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        items = [_rebuilt(f"{name}_{i}", item, tensors) for i, item in enumerate(value)]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def outputs_of(found: Any) -> Named:
    """What forward returned, by name: 'output' alone, 'output_0' in a tuple, its own keys in a dict. None is left out."""
    import torch

    if isinstance(found, torch.Tensor):
        return {"output": found}
    if isinstance(found, Mapping):
        named = dict(leaf for key, value in found.items() for leaf in _checked(str(key), value))
    elif isinstance(found, (tuple, list)):
        named = dict(leaf for i, value in enumerate(found) for leaf in _checked(f"output_{i}", value))
    else:
        named = dict(_checked("output", found))
    if not named:
        raise EdgekitError("the model returns no tensor")
    return named


def _checked(name: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    import torch

    if value is not None and not isinstance(value, (torch.Tensor, Mapping, tuple, list)):
        raise EdgekitError(f"the model's '{name}' is a {type(value).__name__}; outputs must be tensors, in tuples, lists or dicts")
    yield from leaves(name, value)


def free_axes(dynamic: Any, call: Call) -> dict[str, dict[int, str]]:
    """{input: {axis: name of the free size}} from what torch.export takes: by name, in order, nested like the inputs."""
    given: dict[str, dict[int, str]] = {}
    if not dynamic:
        return given
    known = call.tensors()
    by_name = dict(zip(call.arg_names, dynamic, strict=False)) if isinstance(dynamic, (tuple, list)) else dict(dynamic)
    examples = {**dict(zip(call.arg_names, call.args, strict=True)), **call.kwargs}
    for name, axes in by_name.items():
        if name not in examples and name not in known:
            raise EdgekitError(f"free sizes were given for '{name}', but the inputs are {', '.join(known)}")
        _take_axes(name, examples.get(name, known.get(name)), axes, given)
    return {n: axes for n, axes in given.items() if axes}


def _take_axes(name: str, value: Any, axes: Any, given: dict[str, dict[int, str]]) -> None:
    import torch

    if axes is None:
        return
    if isinstance(value, torch.Tensor):
        items = enumerate(axes) if isinstance(axes, (tuple, list)) else axes.items()
        # A derived size (4*t) and a hint (Dim.AUTO) have no name that a signature could hold.
        named = {int(i): n.__name__ if hasattr(n, "__name__") else str(n) for i, n in items if n is not None and not isinstance(n, int)}
        given[name] = {i: n if n.isidentifier() else f"{name}_{i}" for i, n in named.items()}
        for axis in given[name]:
            if not 0 <= axis < value.ndim:
                raise EdgekitError(f"'{name}' has {value.ndim} axes; axis {axis} cannot be free")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _take_axes(f"{name}_{key}", item, axes.get(key), given)
    elif isinstance(value, (tuple, list)):
        for i, (item, part) in enumerate(zip(value, axes, strict=False)):
            _take_axes(f"{name}_{i}", item, part, given)


def resized(tensor: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    """The tensor with another size along one axis, its own slices repeated or cut."""
    import torch

    return tensor.index_select(axis, torch.arange(size) % tensor.shape[axis])
