"""The signature and the program of a converter: what each graph takes and gives, and how a frame goes through them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgekit.models._voice.codec import LATENT, TOKENS
from edgekit.models._voice.converter import POOLED, PROMPT, Converter
from edgekit.models._voice.deploy import DELAY, HISS, PITCH_NOISE, QUIET, SEED, Continue, Heard, Listen, Speak
from edgekit.models._voice.features import SIDE
from edgekit.models._voice.semantic import LOOK_AHEAD
from edgekit.models._voice.semantic import WIDTH as SEMANTIC
from edgekit.models._voice.spectra import HOP, RATE_HZ, WINDOW
from edgekit.program import (
    Affine,
    Feed,
    Join,
    Operation,
    Phase,
    Program,
    Source,
    State,
    Stream,
    Term,
    noise,
    tensor,
    value,
)
from edgekit.signature import Signature, Tensor

SAID = SEMANTIC + SIDE
Shape = tuple[int | str, ...]
Typed = Mapping[str, tuple[str, Shape]]
# What a preparation makes of a recording of the target voice, and the converter takes.
VOICE: Typed = {
    "target_said": ("float32", (1, "prompt", SAID)),
    "target_latents": ("float32", (1, "prompt", LATENT)),
    "target_tokens": ("int64", (1, "prompt")),
}


@dataclass(frozen=True)
class Description:
    """What Trained gives to the exporters, without the weights."""

    signature: Signature
    graphs: Mapping[str, Signature]
    program: Program
    tensors: Mapping[str, np.ndarray]


@dataclass
class _Maker:
    """Phases and the signatures of their graphs, from names alone: every name has one type."""

    types: Typed
    graphs: dict[str, Signature] = field(default_factory=dict)

    def phase(
        self, graph: str, inputs: Mapping[str, Source], outputs: Sequence[str], states: Sequence[str] = (), epilogue: tuple[Operation, ...] = ()
    ) -> Phase:  # fmt: skip
        """`states` are inputs after `inputs`, and outputs NAME_next after `outputs`."""
        takes = tuple(Tensor(n, *self.types[n]) for n in (*inputs, *states))
        gives = (*(Tensor(n, *self.types[n]) for n in outputs), *(Tensor(f"{n}_next", *self.types[n]) for n in states))
        self.graphs[graph] = Signature(takes, gives)
        return Phase(
            graph, inputs={**inputs, **{n: value(n) for n in states}}, outputs={n: n for n in outputs},
            carry={f"{n}_next": n for n in states}, epilogue=epilogue,
        )  # fmt: skip


def describe(listen: Listen, converter: Converter, speak: Speak, temperature: float) -> Description:
    """The stream that converts. In: `audio` (1, samples) and VOICE. Out: `speech` (1, samples), DELAY behind, and `codes`
    (1, frames, 1 + levels)."""
    s, (levels, entries, _) = converter.structure, converter.predictor.books.shape
    tensors = first_states(listen)
    blank: dict[str, tuple[str, Shape]] = {n: ("float32", d) for n, d in Continue(converter).state_shapes.items()}
    blank |= {n: (t, tuple(d)) for n, (t, d) in speak.codec.spoken_states.items()}
    blank |= {n: ("float32", d) for n, d in listen.state_shapes.items() if n not in tensors}
    blank |= {"position": ("int64", (1,)), "filled": ("int64", (1,)), "before": ("int64", (1, 1))}
    if s.history:
        blank["given"] = ("float32", (1, LATENT))
    prompt: tuple[str, Shape] = ("float32", (s.layers, 1, s.heads, PROMPT * converter.positions, s.width // s.heads))
    make = _Maker({
        **VOICE, **blank, **{n: ("float32", v.shape) for n, v in tensors.items()},
        "audio": ("float32", (1, WINDOW)), "prompt_keys": prompt, "prompt_values": prompt, "pooled": ("float32", (1, POOLED)),
        "said": ("float32", (1, SAID)), "state": ("float32", (1, s.width)), "uniform": ("float32", (1, TOKENS + levels * entries)),
        "hiss": ("float32", (1, HOP)), "token": ("int64", (1,)), "codes": ("int64", (1, 1 + levels)), "latents": ("float32", (1, LATENT)),
        "speech": ("float32", (1, HOP)),
    })  # fmt: skip
    known = {n: value(n) for n in ("said", "prompt_keys", "prompt_values", "pooled")}
    if s.history:
        known |= {"given": value("given"), "before": value("before")}
    told = {"said": value("said")} if s.pitch == "carried" else {}
    drawn = {"uniform": noise(PITCH_NOISE, "uniform")} if temperature else {}
    kept = (Affine((Term(value("latents"), 1.0),), "given"),) if s.history else ()
    recite = make.phase("prompt", {n: value(n) for n in VOICE}, ("prompt_keys", "prompt_values", "pooled"))
    frame = (
        make.phase("encoder", {"audio": value("audio")}, ("said",), tuple(listen.state_shapes)),
        make.phase("language", known, ("state",), ("position", "filled", "keys", "values")),
        make.phase("predictor", {"state": value("state"), "pooled": value("pooled"), **told, **drawn}, ("token", "codes", "latents"), (), kept),
        make.phase(
            "decoder", {"latents": value("latents"), "token": value("token"), "hiss": noise(HISS)}, ("speech",),
            ("before", *speak.codec.spoken_states),
        ),
    )  # fmt: skip
    states = {n: State("float32", v.shape, tensor(n)) for n, v in tensors.items()}
    states |= {n: State(t, d) for n, (t, d) in blank.items()}
    meaning = {"target_said": "what a recording of the target says", "target_latents": "its envelopes", "target_tokens": "its pitch"}
    inputs = (
        Tensor("audio", "float32", (1, "samples"), "sound of the source, -1 to 1", rate_hz=RATE_HZ),
        *(Tensor(n, *t, f"{meaning[n]}, frame by frame, as the preparation makes it") for n, t in VOICE.items()),
    )
    outputs = (
        Tensor("speech", "float32", (1, "spoken"), "the same said by the target, about -1 to 1", rate_hz=RATE_HZ),
        Tensor("codes", "int64", (1, "frames", 1 + levels), "of each frame: pitch token, then the codes of its envelope"),
    )
    joins = {"speech": Join("concat", 1, DELAY), "codes": Join("stack", 1)}
    stream = Stream({"audio": Feed(1, WINDOW, HOP)}, frame, joins, states)
    return Description(Signature(inputs, outputs), make.graphs, Program((recite, stream), SEED), tensors)


def describe_preparation(heard: Heard) -> Description:
    """The stream that makes a voice of a recording: `target` (1, samples) to VOICE. A stream too, since running means go frame by frame."""
    tensors = first_states(heard.listen)
    blank: dict[str, tuple[str, Shape]] = {n: ("float32", d) for n, d in heard.state_shapes.items() if n not in tensors}
    frame = {n: (t, (d[0], *d[2:])) for n, (t, d) in VOICE.items()}
    make = _Maker({**frame, **blank, **{n: ("float32", v.shape) for n, v in tensors.items()}, "target": ("float32", (1, WINDOW))})
    phase = make.phase("main", {"target": value("target")}, tuple(VOICE), tuple(heard.state_shapes))
    states = {n: State("float32", v.shape, tensor(n)) for n, v in tensors.items()}
    states |= {n: State(t, d) for n, (t, d) in blank.items()}
    stream = Stream({"target": Feed(1, WINDOW, HOP)}, (phase,), {n: Join("stack", 1) for n in VOICE}, states)
    inputs = (Tensor("target", "float32", (1, "samples"), "a recording of the target voice, best 2 to 10 s", rate_hz=RATE_HZ),)
    return Description(Signature(inputs, tuple(Tensor(n, *t) for n, t in VOICE.items())), make.graphs, Program((stream,)), tensors)


def first_states(listen: Listen) -> dict[str, np.ndarray]:
    """States that do not begin as zeros: the running means, and the side stream of silence."""
    found = {n: t.numpy() for n, t in zip(Listen.RUNNING, listen.running.blank(1), strict=True)}
    found["sides"] = np.tile(np.array(QUIET, np.float32), (1, LOOK_AHEAD, 1))
    return found
