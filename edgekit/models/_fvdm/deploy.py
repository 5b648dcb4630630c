"""A film network as a bundle of tasks: one step graph, small graphs that place known frames, and a table a task. Where films are guided by
what is asked for, films from nothing and long ones have a step graph of their own, with the same weights and twice the batch.

Own task `generation`: a condition, a film. `image-to-video`: its first frame is given. `continuation`: its first two. `interpolation`: its
first and its last. `long-video`: a stream; each tick makes the frames that follow, knowing the last ones of the film before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from edgekit.bundle import Allowed, Golden, TaskProgram
from edgekit.models._diffusion.net import UNet
from edgekit.models._fvdm.clips import FRAMES, Clips
from edgekit.models._fvdm.film import (
    FILM_NOISE,
    HISTORY_NOISE,
    STREAM_NOISE,
    FilmStep,
    GuidedStep,
    Pair,
    Spread,
    Turn,
    draw_films,
    long_films,
)
from edgekit.models._fvdm.plans import COLUMNS, ENDS, FIRST, PAIR, FilmPlan, Loop, rows
from edgekit.program import Feed, Join, Phase, Program, State, Stream, noise, row, value
from edgekit.signature import Signature, Tensor

FILM, CONDITION, IMAGE, FRAMES_GIVEN, TICK, OPENING = "film", "condition", "image", "frames", "tick", "opening"
OWN, ANIMATE, CONTINUE, BETWEEN, LONG = "generation", "image-to-video", "continuation", "interpolation", "long-video"
PLACED = {ANIMATE: FIRST, CONTINUE: PAIR, BETWEEN: ENDS}  # tasks of a whole film -> which of its frames are known
SEED = 7  # of the programs, where the caller gives none: golden answers are made with it
# Of pixels, between this loop in torch and any engine; a part of a long film begins with the answers of the part before it.
ALLOWED_MAX_ABS, ALLOWED_LONG = 1e-4, 1e-3
GOLDEN_FILMS = (4, 3)  # of the golden answers: two sizes of the batch
GOLDEN_TICKS = (3, 2)
Size = tuple[int | str, ...]


@dataclass(frozen=True)
class Described:
    """What a bundle of tasks is made of."""

    signature: Signature
    program: Program
    tasks: Mapping[str, TaskProgram]
    graphs: Mapping[str, Signature]
    tensors: Mapping[str, np.ndarray]


def modules(net: UNet, loop: Loop) -> dict[str, torch.nn.Module]:
    """The graphs by name."""
    guided = {"guided": GuidedStep(net).eval()} if _guided(loop) else {}
    return {"main": FilmStep(net).eval(), **guided, "spread": Spread(), "pair": Pair(), "turn": Turn(loop.overlap)}


def _guided(loop: Loop) -> bool:
    return loop.opening.guided or loop.part.guided


def plans(loop: Loop) -> dict[str, FilmPlan]:
    """The plan of each table's name: of the tasks, and of the parts of a long film."""
    placed = {task: FilmPlan(loop.steps, known) for task, known in PLACED.items()}
    return {OWN: loop.opening, **placed, LONG: loop.part}


def describe(net: UNet, loop: Loop, shows: tuple[str, tuple[str, ...]]) -> Described:
    """shows: what the condition says, and its values."""
    shapes, every = _Shapes(net), plans(loop)
    tensors = {f"{name}/{table}": a for name, plan in every.items() for table, a in rows(plan).items()}
    wanted = Tensor(CONDITION, "int64", ("batch", 1), _meaning(*shows), (len(shows[1]) + 1,), words=(shows[1],))
    image = Tensor(IMAGE, "float32", shapes.picture, "the first frame, pixels -1 to 1")
    film = Tensor(FILM, "float32", shapes.film, "frames, pixels -1 to 1")
    allowed = Allowed(output_max_abs={FILM: ALLOWED_MAX_ABS})

    def pair(meaning: str) -> Tensor:
        return Tensor(FRAMES_GIVEN, "float32", shapes.some(2), meaning)

    def task(given: Tensor, graph: str, name: str) -> TaskProgram:
        place = Phase(graph, inputs={given.name: value(given.name)}, outputs={"known": "known"})
        return TaskProgram(Signature((given,), (film,)), Program((place, shapes.drawn(FILM, name, every[name], FILM_NOISE, "known")), SEED), allowed)

    tasks = {
        ANIMATE: task(image, "spread", ANIMATE), CONTINUE: task(pair("the first two frames, pixels -1 to 1"), "pair", CONTINUE),
        BETWEEN: task(pair("the first frame and the last, pixels -1 to 1"), "pair", BETWEEN), LONG: _long(shapes, wanted, loop),
    }  # fmt: skip
    own = Program((shapes.drawn(FILM, OWN, every[OWN], FILM_NOISE, "nothing"),), SEED)
    known = Tensor("known", "float32", shapes.film)
    x, after = Tensor("x", "float32", shapes.film), (Tensor("x_next", "float32", shapes.film),)
    blind = Tensor("noise", "float32", shapes.film)
    guided = {"guided": Signature((x, known, blind, *shapes.of_rows(Tensor("guidance", "float32", (1,)))), after)} if _guided(loop) else {}
    graphs = {
        "main": Signature((x, known, *shapes.of_rows(Tensor("given", "int64", (1,)))), after), **guided,
        "spread": Signature((Tensor(IMAGE, "float32", shapes.picture),), (known,)),
        "pair": Signature((Tensor(FRAMES_GIVEN, "float32", shapes.some(2)),), (known,)),
        "turn": Signature(
            (Tensor(FILM, "float32", shapes.film),),
            (Tensor("known_next", "float32", shapes.film), Tensor("new", "float32", shapes.some(FRAMES - loop.overlap))),
        ),
    }  # fmt: skip
    return Described(Signature((wanted,), (film,)), own, tasks, graphs, tensors)


def _long(shapes: _Shapes, wanted: Tensor, loop: Loop) -> TaskProgram:
    """A film from nothing when the stream begins; with each tick the frames that follow."""
    begin = shapes.drawn(OPENING, OWN, loop.opening, FILM_NOISE, "nothing")
    turned = Phase("turn", inputs={FILM: value(OPENING)}, outputs={"known_next": "begun"})
    go_on = shapes.drawn("part", LONG, loop.part, STREAM_NOISE, "known")
    turn = Phase("turn", inputs={FILM: value("part")}, outputs={"new": FILM}, carry={"known_next": "known"})
    known = {"known": State("float32", shapes.film, value("begun"))}
    stream = Stream({TICK: Feed(0, 1, 1)}, (go_on, turn), {FILM: Join("concat", 1)}, known)
    tick = Tensor(TICK, "float32", ("ticks",), f"as many numbers as there are to be parts of {FRAMES - loop.overlap} frames; any numbers")
    made = Tensor(FILM, "float32", shapes.some("frames"), "the frames after the opening, pixels -1 to 1")
    opening = Tensor(OPENING, "float32", shapes.film, "the film that it begins with, pixels -1 to 1")
    return TaskProgram(
        Signature((wanted, tick), (made, opening)), Program((begin, turned, stream), SEED),
        Allowed(output_max_abs={FILM: ALLOWED_LONG, OPENING: ALLOWED_MAX_ABS}),
    )  # fmt: skip


class _Shapes:
    """Shapes of a network's films, and the phase that draws one."""

    def __init__(self, net: UNet) -> None:
        self.picture: Size = ("batch", net.channels // FRAMES, net.size, net.size)
        self.film = self.some(FRAMES)

    def some(self, frames: int | str) -> Size:
        """So many frames."""
        return ("batch", frames, *self.picture[1:])

    def of_rows(self, counts: Tensor) -> tuple[Tensor, ...]:
        """What a step takes besides films; counts: what says how far the condition counts."""
        return (
            Tensor(CONDITION, "int64", ("batch", 1)), counts, Tensor("level", "float32", (FRAMES,)),
            Tensor("coefficients", "float32", (len(COLUMNS), FRAMES)),
        )  # fmt: skip

    def drawn(self, film: str, tables: str, plan: FilmPlan, source: int, known: str) -> Phase:
        """The plan's steps from noise to the value `film` by tables of that name. Nothing known and nothing asked are zeros, of the batch's size."""
        states = {film: State("float32", self.film, noise(source))}
        if known == "nothing":
            states[known] = State("float32", self.film)
        if not plan.told:
            states["unasked"] = State("int64", ("batch", 1))
        inputs = {"x": value(film), "known": value(known), CONDITION: value(CONDITION if plan.told else "unasked")}
        if plan.guided and plan.known:
            states["noise"] = State("float32", self.film, noise(HISTORY_NOISE))
        if plan.guided:
            inputs["noise"] = value("noise" if plan.known else known)
        inputs |= {table: row(f"{tables}/{table}") for table in rows(plan)}
        return Phase("guided" if plan.guided else "main", "steps", plan.steps, inputs=inputs, states=states, carry={"x_next": film})


def goldens(net: UNet, loop: Loop, part: Clips) -> dict[str, list[Golden]]:
    """Answers of the loops in torch with the programs' seed to clips of `part`, a list a task; each of another batch."""
    every = plans(loop)
    found: dict[str, list[Golden]] = {name: [] for name in (OWN, *PLACED, LONG)}
    begin = 0
    for count, ticks in zip(GOLDEN_FILMS, GOLDEN_TICKS, strict=True):
        rows_of = np.arange(begin, begin + count) % len(part)
        begin += count
        pixels, condition = part.pixels(rows_of), part.conditions[rows_of]
        asked = torch.from_numpy(condition)
        found[OWN].append(Golden({CONDITION: condition}, {FILM: _array(draw_films(net, every[OWN], None, asked, SEED))}))
        for task in PLACED:
            film = draw_films(net, every[task], torch.from_numpy(pixels), asked, SEED)
            found[task].append(Golden(given_of(task, pixels), {FILM: _array(film)}))
        opening, film = long_films(net, loop, asked, ticks, SEED)
        found[LONG].append(Golden({CONDITION: condition, TICK: np.zeros(ticks, np.float32)}, {FILM: _array(film), OPENING: _array(opening)}))
    return found


def given_of(task: str, films: np.ndarray) -> dict[str, np.ndarray]:
    """The inputs of a task of a whole film: the frames of films float32 (N, frames, C, H, W) that it is given."""
    given = np.ascontiguousarray(films[:, list(PLACED[task])])
    return {IMAGE: np.ascontiguousarray(given[:, 0])} if task == ANIMATE else {FRAMES_GIVEN: given}


def _array(film: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(film.numpy())


def _meaning(head: str, values: tuple[str, ...]) -> str:
    return f"{head}: 0 to {len(values) - 1}, {len(values)} for 'not given'"
