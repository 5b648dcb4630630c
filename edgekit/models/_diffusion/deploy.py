"""A sampler as a deployed program: one graph, Step; one phase, a row a network call; noise from the program's generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from edgekit.bundle import Golden
from edgekit.errors import EdgekitError
from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.plans import Sampling, rows
from edgekit.models._diffusion.sampler import FIRST_NOISE, STEP_NOISE, sample
from edgekit.models._diffusion.step import Step
from edgekit.program import ZEROS, Phase, Program, Source, State, noise, row, value
from edgekit.signature import Signature, Tensor

IMAGE = "image"
SEED = 7  # of the program, where the caller gives none: golden answers are made with it
# Of pixels, between this loop in torch and any engine. Four calls of DDIM differ by 2e-6; multistep kinds divide by a small a.
ALLOWED_MAX_ABS = 1e-4


def describe(net: UNet, sampling: Sampling) -> tuple[Signature, Signature, Program, Mapping[str, np.ndarray]]:
    """(the program's signature, the signature of its graph `main` = Step, the program, the tables that it reads).

    In: `condition` int64 (batch, heads). Out: `image` float32 (batch, C, H, W), about -1 to 1. EdgekitError for a network
    without conditions, for which no input would say how many pictures are wanted.
    """
    if not net.heads:
        raise EdgekitError("a sampler without conditions was to be deployed, but the batch is read off them; train it with one of one value")
    step = Step(net, sampling)
    picture: tuple[int | str, ...] = ("batch", net.channels, net.size, net.size)
    wanted = Tensor("condition", "int64", ("batch", len(net.heads)), _meaning(net), tuple(n + 1 for n in net.heads))
    image = Tensor(IMAGE, "float32", picture, "pixels, -1 to 1")
    tables = rows(sampling)
    states: dict[str, State] = {}
    inputs: list[Tensor] = []
    sources: dict[str, Source] = {}
    shapes = step.state_shapes()
    for name in step.inputs:
        if name in shapes:
            whole = IMAGE if name == "x" else name
            dtype = "int64" if name == "found" else "float32"
            shape: tuple[int | str, ...] = ("batch", *shapes[name])
            states[whole] = State(dtype, shape, noise(FIRST_NOISE) if name == "x" else ZEROS)
            inputs.append(Tensor(name, dtype, shape))
            sources[name] = value(whole)
        elif name == "z":
            inputs.append(Tensor(name, "float32", picture))
            sources[name] = noise(STEP_NOISE)
        elif name == "condition":
            inputs.append(wanted)
            sources[name] = value(name)
        else:
            inputs.append(Tensor(name, "float32", tables[name].shape[1:]))
            sources[name] = row(name)
    outputs = tuple(
        Tensor(out, t.dtype, t.shape) for out, t in zip(step.outputs, (t for t in inputs if t.name in shapes), strict=True)
    )
    carry = {out: IMAGE if name == "x" else name for out, name in zip(step.outputs, step.states, strict=True)}
    phase = Phase("main", "steps", sampling.calls, inputs=sources, states=states, carry=carry)
    return Signature((wanted,), (image,)), Signature(tuple(inputs), outputs), Program((phase,), SEED), tables


def goldens(net: UNet, sampling: Sampling, conditions: Sequence[np.ndarray]) -> list[Golden]:
    """Answers of sample() with the program's seed; conditions: int64 (batch, heads), each of another batch."""
    found = []
    for condition in conditions:
        pictures = sample(net.eval(), sampling, torch.from_numpy(condition), SEED).numpy()
        found.append(Golden({"condition": condition}, {IMAGE: np.ascontiguousarray(pictures)}))
    return found


def _meaning(net: UNet) -> str:
    return "; ".join(f"column {i}: 0 to {n - 1}, {n} for 'not given'" for i, n in enumerate(net.heads))
