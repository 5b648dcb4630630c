"""Edits as deployed programs over one network: a prepared edit, its source again, a picture inverted on the device, and an edit of that.

Graphs: `main` (Step), `text` (what stands for conditions), `prepared` (one of the prepared edits). All loops run `main`, with tables of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor as Torch
from torch import nn

from edgekit.bundle import Golden
from edgekit.models._diffusion.net import UNet
from edgekit.models._latent_inversion import plans
from edgekit.models._latent_inversion.invert import inverted, texts, walk
from edgekit.models._latent_inversion.plans import COLUMNS
from edgekit.models._latent_inversion.step import Prepared, Step, Text
from edgekit.program import Phase, Program, Source, State, row, tensor, value
from edgekit.signature import Signature, Tensor

IMAGE, EDIT, SWITCH, LATENT, OFFSETS = "image", "edit", "switch", "latent", "offsets"
OWN, RESTORED, INVERT, FREE = "edit", "reconstruction", "invert", "edit-own"
ALLOWED_MAX_ABS = 1e-4  # of pixels, between the loops in torch and any engine
GRAPHS: Mapping[str, type[Step] | type[Text] | type[Prepared]] = {"main": Step, "text": Text, "prepared": Prepared}



@dataclass(frozen=True)
class Way:
    """How edits are made: the calls of a picture, and what decides each of them."""

    steps: int
    guidance: float
    switch: int  # the call from which on the target's text is given, as chosen on validation edits; a caller may give another
    keep: float


@dataclass(frozen=True)
class Edits:
    """Prepared edits, a row each: all that the device needs besides the network."""

    latents: Torch  # (N, C, H, W)
    offsets: Torch  # (S, N, C, H, W)
    sources: Torch  # (N, E)
    targets: Torch  # (N, E)
    names: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]  # what the values of every condition are called


class Carried(nn.Module):
    """The network with its prepared edits, as a checkpoint holds them."""

    def __init__(self, net: UNet, edits: Edits) -> None:
        super().__init__()
        self.net = net
        for name in ("latents", "offsets", "sources", "targets"):
            self.register_buffer(name, getattr(edits, name))


def module(net: UNet, graph: str) -> nn.Module:
    """A graph to export."""
    kind = GRAPHS[graph]
    return (kind() if kind is Prepared else kind(net)).eval()


def tensors(edits: Edits, way: Way) -> dict[str, np.ndarray]:
    """What all programs read."""
    found = {f"edits/{name}": np.ascontiguousarray(getattr(edits, name).numpy()) for name in ("latents", "offsets", "sources", "targets")}
    every = {
        "down": plans.down(way.steps, way.guidance, way.keep), "restore": plans.restored(way.steps, way.guidance),
        "up": plans.up(way.steps), "follow": plans.following(way.steps, way.guidance),
    }  # fmt: skip
    return found | {f"{plan}/{name}": table for plan, rows in every.items() for name, table in rows.items()}


def signatures(net: UNet, edits: Edits, way: Way) -> dict[str, Signature]:
    """Of the graphs."""
    t = _Tensors(net, edits, way)
    stored = [Tensor(name, "float32", tuple(getattr(edits, name).shape)) for name in ("latents", "offsets", "sources", "targets")]
    line = [Tensor("level", "float32", (1,)), Tensor("coefficients", "float32", (len(COLUMNS),)), Tensor("places", "int64", (2,))]
    step = (t.picture("x"), t.bank("bank"), t.text("source"), t.text("target"), t.switch, *line)
    made = (t.picture(LATENT), t.bank("bank"), t.text("source"), t.text("target"))
    return {
        "main": Signature(step, (t.picture("x_next"), t.picture("noted"))),
        "text": Signature((t.condition("condition"),), (t.text("text"),)),
        "prepared": Signature((t.edit, *stored), made),
    }


def programs(net: UNet, edits: Edits, way: Way) -> dict[str, tuple[Signature, Program]]:
    """Every task, the bundle's own first."""
    t = _Tensors(net, edits, way)
    image, latent, offsets, shows = t.picture(IMAGE, "pixels, -1 to 1"), t.picture(LATENT), t.bank(OFFSETS), t.condition("condition")
    stored = {name: tensor(f"edits/{name}") for name in Prepared.inputs[1:]}
    picked = Phase("prepared", inputs={EDIT: value(EDIT)} | stored, outputs={name: name for name in Prepared.outputs})
    asked = {"source": value("source"), "target": value("target"), SWITCH: value(SWITCH)}
    alone = {"source": value("source"), "target": value("source"), SWITCH: value("never")}
    never = State("int64", ("batch", 1))  # zeros: the tables of these ways place every call before it

    def read(name: str, of: str) -> Phase:
        return Phase("text", inputs={"condition": value(of)}, outputs={"text": name})

    def loop(plan: str, begin: str, to: str, bank: Source, texts: Mapping[str, Source], noted: str = "", **states: State) -> Phase:
        rows = {name: row(f"{plan}/{name}") for name in ("level", "coefficients", "places")}
        held = {to: State("float32", image.shape, value(begin))} | states
        seen, all_seen = ({"noted": noted}, {f"{noted}s": noted}) if noted else ({}, {})
        given = {"x": value(to), "bank": bank, **texts, **rows}
        return Phase("main", "steps", way.steps, given, seen, held, {"x_next": to}, collect=all_seen)

    empty = State("float32", offsets.shape)
    return {
        OWN: (Signature((t.edit, t.switch), (image,)), Program((picked, loop("down", LATENT, IMAGE, value("bank"), asked)))),
        RESTORED: (Signature((t.edit,), (image,)), Program((picked, loop("restore", LATENT, IMAGE, value("bank"), alone, never=never)))),
        INVERT: (
            Signature((image, shows), (latent, offsets)),
            Program((
                read("source", "condition"),
                loop("up", IMAGE, LATENT, value("empty"), alone, "pivot", never=never, empty=empty),
                loop("follow", LATENT, "back", value("pivots"), alone, "offset", never=never),
            )),
        ),
        FREE: (
            Signature((latent, offsets, shows, t.condition("wanted"), t.switch), (image,)),
            Program((read("source", "condition"), read("target", "wanted"), loop("down", LATENT, IMAGE, value(OFFSETS), asked))),
        ),
    }  # fmt: skip


class _Tensors:
    """Inputs and outputs by what they are."""

    def __init__(self, net: UNet, edits: Edits, way: Way) -> None:
        self.net, self.steps, self.shape, self.words = net, way.steps, (net.channels, net.size, net.size), edits.words
        self.edit = Tensor(EDIT, "int64", ("batch", 1), "which of the prepared edits", (len(edits.names),), words=(edits.names,))
        said = f"the call from which on the target's text is given, 0 to {way.steps} (never); {way.switch} as chosen on validation edits"
        self.switch = Tensor(SWITCH, "int64", ("batch", 1), said, (way.steps + 1,))

    def picture(self, name: str, meaning: str = "") -> Tensor:
        return Tensor(name, "float32", ("batch", *self.shape), meaning)

    def bank(self, name: str) -> Tensor:
        return Tensor(name, "float32", (self.steps, "batch", *self.shape))

    def text(self, name: str) -> Tensor:
        return Tensor(name, "float32", ("batch", 4 * self.net.width))

    def condition(self, name: str) -> Tensor:
        heads = self.net.heads
        meaning = "; ".join(f"column {i}: 0 to {n - 1}, {n} for 'not given'" for i, n in enumerate(heads))
        return Tensor(name, "int64", ("batch", len(heads)), meaning, tuple(n + 1 for n in heads), words=self.words)


def answered(net: UNet, edits: Edits, way: Way, task: str, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the loops in torch answer to the inputs of a task."""
    step, t = Step(net).eval(), {n: torch.from_numpy(a) for n, a in given.items()}
    if task == INVERT:
        known = inverted(step, t[IMAGE], texts(net, given["condition"]), way.steps, way.guidance)
        return {LATENT: known.latent.numpy(), OFFSETS: known.offsets.numpy()}
    rows, switch = plans.down(way.steps, way.guidance, way.keep), t.get(SWITCH)
    if task == FREE:
        source, target = texts(net, given["condition"]), texts(net, given["wanted"])
        latent, bank = t[LATENT], t[OFFSETS]
    else:
        latent, bank, source, target = Prepared()(t[EDIT], edits.latents, edits.offsets, edits.sources, edits.targets)
    if switch is None:
        rows, switch = plans.restored(way.steps, way.guidance), torch.zeros(len(latent), 1, dtype=torch.int64)
    return {IMAGE: walk(step, latent, bank, source, target, switch, rows)[0].numpy()}


def goldens(net: UNet, edits: Edits, way: Way, task: str, given: list[dict[str, np.ndarray]]) -> list[Golden]:
    """Inputs of several batches with the answers of torch."""
    return [Golden(g, {n: np.ascontiguousarray(a) for n, a in answered(net, edits, way, task, g).items()}) for g in given]
