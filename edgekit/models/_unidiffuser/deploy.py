"""The seven tasks of one network as programs over three graphs: `main` = Step, `encode` and `decode`.

Pictures that are given are read where they are, captions after `encode`, so that they stay as they are to the bit. What is unknown is new
noise in every call, as in UniDiffuser; the network hears nothing of it. A variation is two walks: image to text to image, text to image to text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from edgekit.bundle import Allowed, Golden, TaskProgram
from edgekit.models._unidiffuser.captions import Words
from edgekit.models._unidiffuser.net import Net
from edgekit.models._unidiffuser.plans import CAPTION, KINDS, MADE, PICTURE, ROWS, Kind, Walk, rows
from edgekit.models._unidiffuser.sampler import CAPTION_NOISE, PICTURE_NOISE, walk
from edgekit.program import Phase, Program, Source, State, noise, row, value
from edgekit.signature import Signature, Tensor

OWN = "text-to-image"
VARIATIONS: Mapping[str, tuple[Kind, Kind]] = {
    "image-variation": ("image-to-text", "text-to-image"), "text-variation": ("text-to-image", "image-to-text"),
}  # fmt: skip
TASKS = (*KINDS, *VARIATIONS)
ASKED: Mapping[str, str] = {"joint": "pair", "image": "picture", "text": "caption"}  # what each row of `wanted` is called, for `--text`
SEED = 7  # of the programs, where the caller gives none: golden answers are made with it
# Of pixels, between this loop in torch and any engine: 25 calls with guidance differ by some 1e-6, but where a joint caption is undecided they part.
ALLOWED_MAX_ABS = 1e-4
Walks = Mapping[str, Walk]  # of each kind


@dataclass
class Building:
    """A program as it grows: its phases, and where picture and codes are now."""

    deployed: Deployed
    picture: str = ""
    codes: str = ""
    phases: list[Phase] = field(default_factory=list)

    def encode(self, words: str, codes: str) -> None:
        """Words become codes."""
        self.phases.append(Phase("encode", inputs={"words": value(words)}, outputs={"y": codes}))
        self.codes = codes

    def decode(self, words: str) -> None:
        """Codes become words."""
        self.phases.append(Phase("decode", inputs={"y": value(self.codes)}, outputs={"words": words}))

    def walk(self, kind: Kind, picture: str, codes: str, first_noise: int = 0) -> None:
        """Steps that make a picture called `picture`, codes called `codes`, or both. first_noise: of the two ids of its noise."""
        made, net = MADE[kind], self.deployed.net
        shapes: list[tuple[int | str, ...]] = [("batch", net.channels, net.size, net.size), ("batch", *net.codes.shape[::2])]
        names, now, ids = (picture, codes), (self.picture, self.codes), (PICTURE_NOISE, CAPTION_NOISE)
        inputs: dict[str, Source] = {n: row(f"{kind}/{n}") for n in ROWS}
        states: dict[str, State] = {}
        for i, graph_input in ((PICTURE, "x"), (CAPTION, "y")):
            if made[i]:
                states[names[i]] = State("float32", shapes[i], noise(first_noise + ids[i]))
                inputs[graph_input] = value(names[i])
            else:
                inputs[graph_input] = value(now[i]) if now[i] else noise(first_noise + ids[i])
        carry = {out: name for out, name, m in zip(("x_next", "y_next"), names, made, strict=True) if m}
        self.phases.append(Phase("main", "steps", self.deployed.walks[kind].steps, inputs=inputs, states=states, carry=carry))
        self.picture, self.codes = picture if made[PICTURE] else self.picture, codes if made[CAPTION] else self.codes


class Deployed:
    """A network with its walks, as a bundle says it."""

    def __init__(self, net: Net, words: Words, walks: Walks) -> None:
        self.net, self.words, self.walks = net, words, walks
        places, _, length = net.codes.shape
        self.pixels: tuple[int | str, ...] = ("batch", net.channels, net.size, net.size)
        self.codes: tuple[int | str, ...] = ("batch", places, length)

    def graphs(self) -> dict[str, Signature]:
        """Inputs and outputs of the three graphs."""
        x, y = (Tensor(n, "float32", s) for n, s in (("x", self.pixels), ("y", self.codes)))
        words = Tensor("words", "int64", ("batch", len(self.words)))
        table = rows(Walk("joint", 1))
        asked = (x, y, *(Tensor(n, "float32", table[n].shape[1:]) for n in ROWS))
        made = (Tensor("x_next", "float32", self.pixels), Tensor("y_next", "float32", self.codes))
        return {"main": Signature(asked, made), "encode": Signature((words,), (y,)), "decode": Signature((y,), (words,))}

    def tables(self) -> dict[str, np.ndarray]:
        """The rows of all walks, as KIND/NAME."""
        return {f"{kind}/{name}": table for kind, plan in self.walks.items() for name, table in rows(plan).items()}

    def task(self, name: str) -> TaskProgram:
        """The program of a task."""
        b = Building(self)
        if name == OWN:
            b.encode("words", "caption")
            b.walk("text-to-image", "image", "")
            return self._program(b, self.said("words", may_lack=True), self.image("image"))
        if name == "image-to-text":
            b.picture = "image"
            b.walk("image-to-text", "", "caption")
            b.decode("words")
            return self._program(b, self.image("image"), self.said("words"))
        if name == "image-variation":
            b.picture = "image"
            b.walk("image-to-text", "", "caption")
            b.decode("words")
            b.encode("words", "again")
            b.walk("text-to-image", "varied", "", 2)
            return self._program(b, self.image("image"), self.image("varied"), self.said("words"))
        if name == "text-variation":
            b.encode("words", "caption")
            b.walk("text-to-image", "image", "")
            b.walk("image-to-text", "", "again", 2)
            b.decode("varied")
            return self._program(b, self.said("words", may_lack=True), self.said("varied"), self.image("image"))
        return self._of_nothing(name)

    def _of_nothing(self, name: str) -> TaskProgram:
        kind: Kind = next(k for k in KINDS if k == name)
        b, made = Building(self), MADE[kind]
        b.walk(kind, "image", "caption")
        if made[CAPTION]:
            b.decode("words")
        outputs = [*([self.image("image")] if made[PICTURE] else []), *([self.said("words")] if made[CAPTION] else [])]
        wanted = ASKED[name]
        return self._program(b, Tensor("wanted", "int64", ("batch", 1), f"a row for each {wanted}, all 0", (1,), words=((wanted,),)), *outputs)

    def _program(self, built: Building, asked: Tensor, *outputs: Tensor) -> TaskProgram:
        allowed = Allowed({t.name: ALLOWED_MAX_ABS if t.dtype == "float32" else 0.0 for t in outputs}, score_drop=0.005)
        return TaskProgram(Signature((asked,), outputs), Program(tuple(built.phases), SEED), allowed)

    def image(self, name: str) -> Tensor:
        """Pictures as an input or output."""
        return Tensor(name, "float32", self.pixels, "pixels, -1 to 1")

    def said(self, name: str, may_lack: bool = False) -> Tensor:
        """Captions as an input or output."""
        meaning = "the number of each word" + (", that of a place's words for 'not given'" if may_lack else "")
        return Tensor(name, "int64", ("batch", len(self.words)), meaning, tuple(len(w) + may_lack for w in self.words), words=self.words)

    def answer(self, name: str, given: Mapping[str, np.ndarray], seed: int = SEED) -> dict[str, np.ndarray]:
        """What a task gives, by torch: the oracle of every engine."""
        net, count = self.net, len(next(iter(given.values())))
        x = torch.from_numpy(given["image"]) if "image" in given else None
        y = net.encoded(torch.from_numpy(given["words"])) if "words" in given else None
        kinds = VARIATIONS.get(name) or (next(k for k in KINDS if k == name),)
        found: dict[str, Any] = {}
        for i, kind in enumerate(kinds):
            known_x, known_y = (None if made else v for made, v in zip(MADE[kind], (x, y), strict=True))
            x, y = walk(net, self.walks[kind], count, seed, known_x, known_y, whole=True, first_noise=2 * i)
            if MADE[kind][CAPTION]:
                found["varied" if i else "words"] = net.decoded(y)
                y = net.encoded(net.decoded(y))
            if MADE[kind][PICTURE]:
                found["varied" if i else "image"] = x
        return {n: np.ascontiguousarray(v.numpy()) for n, v in found.items()}

    def golden(self, name: str, given: Mapping[str, np.ndarray]) -> Golden:
        """A golden answer with the program's seed."""
        return Golden(dict(given), self.answer(name, given))
