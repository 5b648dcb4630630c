"""How networks with a level per frame, one level, and the published sampler of levels are trained alike and held side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgekit import files
from edgekit.checkpoint import Checkpoint, save_checkpoint
from edgekit.measurement import Progress
from edgekit.models._fvdm import bars
from edgekit.models._fvdm.clips import ClipSplit
from edgekit.models._fvdm.deploy import SEED
from edgekit.models._fvdm.film import draw_films, long_films
from edgekit.models._fvdm.frames import yardstick_of
from edgekit.models._fvdm.options import Kind, Options
from edgekit.models._fvdm.outcome import (
    CALLS,
    LONG_CHOOSE,
    LONG_SO,
    MADE_SO,
    TEST_SEED,
    VALIDATION_SEED,
    Outcome,
    continued,
    long_statistics,
    outcome_of,
    worst_change,
)
from edgekit.models._fvdm.plans import ENDS, PAIR, Loop
from edgekit.models._fvdm.stages import loaded, made
from edgekit.models._fvdm.tables import NAMES, LongFilms, tables
from edgekit.models._stages import Stages
from edgekit.picture_grid import grid, write_png

SEEN = 6  # films of a picture, a row each
SEEN_TICKS = 4  # of the long films that are shown
FORM = "films"  # the folder that is deployed


class Fit:
    """One run of the recipe."""

    def __init__(self, options: Options, out: Path, progress: Progress, split: ClipSplit, fabric: Any) -> None:
        self.options, self.out, self.progress, self.split, self.fabric = options, out, progress, split, fabric
        self.stages = Stages("fvdm", options, out, progress, {"films": split.sha256}, fabric)

    def run(self) -> Path:
        """Train what is not trained yet, test what is not tested yet; the checkpoint folder to deploy."""
        every: dict[tuple[Kind, int], Checkpoint] = {}
        for seed in self.options.seeds:
            for kind in self.options.networks:
                if kind != "paper" or seed == self.options.seeds[0]:
                    every[kind, seed] = made(self.stages, self.options, self.split, kind, seed)
        self.yardstick = yardstick_of(self.fabric, self.split, self.progress)
        outcomes = [self._tested(kind, seed, checkpoint, i, len(every)) for i, ((kind, seed), checkpoint) in enumerate(every.items())]
        vector = {seed: checkpoint for (kind, seed), checkpoint in every.items() if kind == "vector"}
        guidance = {o.seed: o.guidance for o in outcomes if o.kind == "vector"}
        chosen = {seed: self._loop(seed, checkpoint, guidance[seed]) for seed, checkpoint in vector.items()}
        plain = {seed: dataclasses.replace(loop, history=1.0, doubt=0.0) for seed, loop in chosen.items()}
        long = [self._long(seed, c, loop) for seed, c in vector.items() for loop in dict.fromkeys((plain[seed], chosen[seed]))]
        best = min((o for o in outcomes if o.kind == "vector"), key=lambda o: o.validation[str(CALLS[-1])])
        if self.fabric.is_global_zero:
            self._hand_over(every["vector", best.seed], chosen[best.seed])
            real = self._real()
            result = {
                "score_name": "floor / feature-FID of frames", "test_samples": len(self.split.test), "deploy": FORM,
                "rows": [self._row(o, every[o.kind, o.seed], real["fid"], o is best) for o in sorted(outcomes, key=lambda o: o is not best)],
                "tables": tables(outcomes, long, self._bars(PAIR), self._bars(ENDS), real, self._seconds(every)),
                "pictures": self._pictures(every, outcomes, best, chosen[best.seed]),
            }  # fmt: skip
            files.write_text(self.out / "result.json", files.canonical_json(result))
        self.fabric.barrier()
        return self.out / FORM

    def _tested(self, kind: Kind, seed: int, checkpoint: Checkpoint, done: int, total: int) -> Outcome:
        """The figures of a network, from beside it or taken now."""
        self.progress("films", done, total)
        decided_by = {**MADE_SO, "guidance": self.options.guidance}
        return Outcome(**self.stages.stored(checkpoint, "test", partial(self._outcome, kind, seed, checkpoint), decided_by))

    def _outcome(self, kind: Kind, seed: int, checkpoint: Checkpoint) -> dict[str, Any]:
        return outcome_of(kind, seed, loaded(checkpoint), self.split, self.yardstick, self.options.guidance).to_json()

    def _loop(self, seed: int, checkpoint: Checkpoint, guidance: float) -> Loop:
        """Of the ways to draw long films the one under which those of validation conditions change least."""
        part, loops = self.split.validation.first(LONG_CHOOSE), self.options.loops(guidance)

        def change(loop: Loop) -> float:
            self.progress(f"guidance of long films, seed {seed}", loops.index(loop), len(loops))
            return worst_change(long_statistics(loaded(checkpoint), part, self.yardstick, loop, VALIDATION_SEED))

        if len(loops) == 1:
            return loops[0]
        decided_by = {**LONG_SO, "films": LONG_CHOOSE, "loops": [dataclasses.asdict(loop) for loop in loops]}
        found: list[float] = self.stages.stored(checkpoint, "history", lambda: [change(loop) for loop in loops], decided_by)
        return loops[found.index(min(found))]

    def _long(self, seed: int, checkpoint: Checkpoint, loop: Loop) -> LongFilms:
        """Figures of long films of a network, from beside it or taken now."""
        self.progress(f"long films, seed {seed}, guidance {loop.history:g}", 0, 1)

        def compute() -> dict[str, float]:
            return long_statistics(loaded(checkpoint), self.split.test, self.yardstick, loop, TEST_SEED + seed)

        name = f"long-{loop.history:g}-{loop.doubt:g}"
        return LongFilms(seed, loop, self.stages.stored(checkpoint, name, compute, {**LONG_SO, "loop": dataclasses.asdict(loop)}))

    def _hand_over(self, checkpoint: Checkpoint, loop: Loop) -> None:
        """The weights as the form that is deployed, and the score of its films with the deployed program's noise."""
        net, test = loaded(checkpoint), self.split.test
        films = draw_films(net, loop.opening, None, torch.from_numpy(test.conditions), SEED).numpy().clip(-1, 1)
        score = self.yardstick.distance(test.pixels()) / self.yardstick.distance(films)
        facts = {**checkpoint.facts, "recipe": self.stages.recipe, "form": FORM, "loop": dataclasses.asdict(loop), "score": score}
        save_checkpoint(self.out / FORM, net, facts)

    def _row(self, outcome: Outcome, checkpoint: Checkpoint, floor: float, deployed: bool) -> dict[str, Any]:
        return {
            "label": f"{NAMES[outcome.kind]}, seed {outcome.seed}", "role": "model" if deployed else "baseline", "steps": None,
            "score": floor / outcome.fid, "validation": None, "epochs": checkpoint.facts["epochs"], "seconds": self.stages.seconds(checkpoint),
            "spikes_per_neuron": {}, "estimates": [],
        }  # fmt: skip

    def _bars(self, known: tuple[int, ...]) -> dict[str, float]:
        """Errors of the bars, as shares of copying, or of blending where both ends are known."""
        real = self.split.test.pixels()
        simple = bars.blended(real) if known == ENDS else bars.copied(real, known[-1])
        return bars.share(bars.bars(self.split.train, self.split.validation, real, known), bars.error(simple, real, known))

    def _real(self) -> dict[str, float]:
        """The same figures of real test clips."""
        test = self.split.test
        real = test.pixels()
        shown = float((self.yardstick.told(real) == test.conditions[:, 0]).mean())
        return {"fid": self.yardstick.distance(real), "shown": shown, "energy": bars.energy(real)}

    def _seconds(self, every: Mapping[tuple[Kind, int], Checkpoint]) -> dict[str, list[float]]:
        """Seconds of training of each kind, a number a seed."""
        found: dict[str, list[float]] = {}
        for (kind, _), checkpoint in every.items():
            found.setdefault(kind, []).append(self.stages.seconds(checkpoint))
        return found

    def _pictures(
        self, every: Mapping[tuple[Kind, int], Checkpoint], outcomes: Sequence[Outcome], best: Outcome, loop: Loop
    ) -> list[dict[str, str]]:
        """Film strips, a row a film: of the same held-out clips real, continued and interpolated; and from nothing."""
        test = self.split.test
        rows = np.linspace(0, len(test) - 1, min(SEEN, len(test))).astype(np.int64)
        part = type(test)(test.films[rows], test.conditions[rows], test.head, test.values)
        net, asked = loaded(every["vector", best.seed]), torch.from_numpy(part.conditions)
        most, known = CALLS[-1], "the first two frames are given"
        opening, after = long_films(net, loop, asked, SEEN_TICKS, TEST_SEED)
        shown = {
            "real": ("Held-out clips", "what the films below were to say", part.pixels()),
            "continued": (f"Continued, {most} calls", known, continued(net, "own levels", most, part, PAIR, TEST_SEED)),
            "continued1": ("Continued, one call", f"{known}; the mean of what may follow", continued(net, "own levels", 1, part, PAIR, TEST_SEED)),
            "between": (f"Interpolated, {most} calls", "both ends are given", continued(net, "own levels", most, part, ENDS, TEST_SEED)),
            "generated": (f"From nothing, {loop.steps} calls", "asked for what the clips above show", opening.numpy()),
            "long": ("Long films", f"a film from nothing and {SEEN_TICKS} parts after it", torch.cat([opening, after], 1).numpy()),
        }  # fmt: skip
        for scalar in (o for o in outcomes if (o.kind, o.seed) == ("scalar", best.seed)):
            films = continued(loaded(every["scalar", best.seed]), scalar.way[str(most)], most, part, PAIR, TEST_SEED)
            shown["scalar"] = (f"One level for all frames, {most} calls", known, films)
        for name, (_, _, films) in shown.items():
            flat = np.ascontiguousarray(films.reshape(-1, *films.shape[2:]), np.float32)
            write_png(self.out / f"{name}.png", grid(flat, films.shape[1]))
        return [{"title": title, "file": f"{name}.png", "caption": said} for name, (title, said, _) in shown.items()]


