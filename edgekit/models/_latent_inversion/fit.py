"""How networks are trained, one way to edit is chosen on validation edits, and held-out edits are judged by another classifier."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgekit import files
from edgekit.checkpoint import Checkpoint, save_checkpoint
from edgekit.measurement import Progress
from edgekit.models._diffusion import quality, rewards
from edgekit.models._diffusion.data import Split
from edgekit.models._diffusion.stages import Stages, loaded
from edgekit.models._diffusion.yardstick import yardstick_of
from edgekit.models._latent_inversion import edits as judged
from edgekit.models._latent_inversion.deploy import Carried, Edits, Way, answered
from edgekit.models._latent_inversion.edits import Asked, held_out, own
from edgekit.models._latent_inversion.invert import (
    Inverted,
    again,
    anew,
    blended,
    edited,
    edited_by_null_texts,
    inverted,
    null_texts,
    optimised,
    restored,
    texts,
)
from edgekit.models._latent_inversion.step import Step
from edgekit.models._latent_inversion.tables import AGAIN, SHARES, Choice, Edited, Outcome, chosen, tables, ways
from edgekit.models._latent_inversion.trained import SAMPLED, SCORE, edits_at, switch_of
from edgekit.models._latent_inversion_options import Options
from edgekit.picture_grid import grid, write_png

NULL_EDITS = 40  # of the reported ones that null texts are optimised for: they take gradients in every call
SEEN, SEEN_SHARES = 8, (0.0, 0.2, 0.4, 0.6, 0.8)  # rows of the picture, and its switches
MADE_SO = {"shares": SHARES, "null_edits": NULL_EDITS, "again": list(AGAIN), "figures": [f.name for f in dataclasses.fields(Outcome)]}


class Fit:
    """One run of the recipe."""

    def __init__(self, options: Options, out: Path, progress: Progress, split: Split, fabric: Any) -> None:
        self.options, self.out, self.progress, self.split, self.fabric = options, out, progress, split, fabric
        self.yardstick = yardstick_of(fabric, split, progress)
        # What choices are made by judges nothing that is reported.
        self.judge = quality.feature_net(fabric, split, rewards.folder(split.name), progress, seed=rewards.JUDGE_SEED)
        self.stages = Stages("latent_inversion", options, out, progress, split, fabric)
        e = options.edits
        self.validation, self.test = held_out(split.validation, e.heads, e.validation, "validation "), held_out(split.test, e.heads, e.test)

    def run(self) -> Path:
        """Train what is not trained yet, judge what is not judged yet; the checkpoint folder to deploy."""
        o = self.options
        made = {seed: self.stages.teacher(seed, o.teacher, o.network.width) for seed in o.seeds}
        told = {"inversion": dataclasses.asdict(o.inversion), "edits": dataclasses.asdict(o.edits)}
        tried = [self.stages.stored(c, "choices", lambda c=c: self._tried(c), told) for c in made.values()]  # type: ignore[misc]
        trials = [[Choice(**t) for t in found["trials"]] for found in tried]
        order = chosen(trials, o.edits.accepted)
        best = order[0]
        judged_so = {**told, **MADE_SO, "way": list(best.way)}
        tested = [self.stages.stored(c, "edits", lambda c=c, s=s: self._judged(c, s, best), judged_so) for s, c in made.items()]  # type: ignore[misc]
        outcomes = [Outcome.from_json(found["outcome"]) for found in tested]
        seed = self._deployed(trials, best)
        form = "own" if o.edit.picture else "edit"
        if self.fabric.is_global_zero:
            scores = self._hand_over(form, made[seed], best)
            seconds = {
                "network": [self.stages.seconds(c) for c in made.values()], "choosing": [t["seconds"] for t in tried],
                "held-out edits": [t["seconds"] for t in tested],
            }  # fmt: skip
            result = {
                "score_name": SCORE, "test_samples": len(self.test), "deploy": form,
                "rows": [self._row(oc, made[oc.seed], oc.seed == seed) for oc in sorted(outcomes, key=lambda oc: oc.seed != seed)],
                "tables": tables(outcomes, order, seconds, o.edits.accepted), "pictures": self._pictures(made[seed], best, scores),
            }  # fmt: skip
            files.write_text(self.out / "result.json", files.canonical_json(result))
        self.fabric.barrier()
        return self.out / form

    # ---- choosing

    def _prepared(self, step: Step, asked: Asked, guidance: float) -> tuple[Inverted, torch.Tensor]:
        """(sources with optimised texts, taken up; the targets' texts as the network learned them)."""
        i, net = self.options.inversion, step.net
        images, text = torch.from_numpy(asked.images), texts(net, asked.shows)
        if i.text_updates:
            text = optimised(net, images, text, i.text_updates, i.text_rate)
        return inverted(step, images, text, i.steps, guidance), texts(net, asked.wanted)

    def _tried(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Every way that the recipe leaves open, on validation edits."""
        begun, step, asked = time.perf_counter(), _step(checkpoint), self.validation
        found: list[dict[str, Any]] = []
        known, target = self._prepared(step, asked, 1.0)
        every = ways(self.options.inversion)
        for i, way in enumerate(every):
            self.progress(f"{checkpoint.folder.name}: choosing how to edit", i, len(every))
            if not found or found[-1]["guidance"] != way.guidance:
                known = again(step, known.pivots, known.source, way.guidance)
            images = self._edited(step, known, target, way).numpy()
            share = float(judged.accepted(self.judge, images, asked).mean())
            found.append(dataclasses.asdict(dataclasses.replace(way, accepted=share, away=float(judged.away(images, asked).mean()))))
        return {"trials": found, "seconds": time.perf_counter() - begun}

    def _edited(self, step: Step, known: Inverted, target: torch.Tensor, way: Choice, share: float | None = None) -> torch.Tensor:
        """share: of the steps before the switch, where it is another than the way's."""
        switch = round((way.switch if share is None else share) * self.options.inversion.steps)
        return edited(step, known, blended(target, known.source, way.blend), switch, way.guidance, way.keep)

    def _deployed(self, trials: list[list[Choice]], best: Choice) -> int:
        """The seed with the most accepted validation edits of the chosen way; of equals the nearest to the sources."""
        found = {s: next(c for c in some if c.way == best.way) for s, some in zip(self.options.seeds, trials, strict=True)}
        return min(found, key=lambda s: (-found[s].accepted, found[s].away))

    # ---- what came of it

    def _judged(self, checkpoint: Checkpoint, seed: int, way: Choice) -> dict[str, Any]:
        begun, step, asked, i = time.perf_counter(), _step(checkpoint), self.test, self.options.inversion
        self.progress(f"{checkpoint.folder.name}: held-out edits", 0, 3)
        known, target = self._prepared(step, asked, way.guidance)
        self.progress(f"{checkpoint.folder.name}: held-out edits", 1, 3)
        some = asked.first(min(NULL_EDITS, len(asked)))
        n = len(some)
        few = Inverted(known.pivots[:, :n], known.source[:n], known.offsets[:, :n])
        empty = null_texts(step, few, way.guidance, i.null_updates, i.null_rate)
        switch = round(way.switch * i.steps)
        by_null = edited_by_null_texts(step, few, empty, blended(target[:n], few.source, way.blend), switch, way.guidance)
        self.progress(f"{checkpoint.folder.name}: held-out edits", 2, 3)
        edits = {
            "injected": self._look(self._edited(step, known, target, way), asked),
            "at once": self._look(self._edited(step, known, target, way, 0.0), asked),
            "null texts": self._look(by_null, some), "anew": self._look(anew(step, known, target, way.guidance), asked),
        }  # fmt: skip
        sweep = [self._look(self._edited(step, known, target, way, share), asked) for share in SHARES]
        outcome = Outcome(seed, self._psnr(step, known, few, empty, way), edits, sweep)
        return {"outcome": outcome.to_json(), "seconds": time.perf_counter() - begun}

    def _psnr(self, step: Step, known: Inverted, few: Inverted, empty: torch.Tensor, way: Choice) -> dict[str, float]:
        """How near every way leads to the source again."""
        i, asked, w = self.options.inversion, self.test, way.guidance
        plain = inverted(step, torch.from_numpy(asked.images), texts(step.net, asked.shows), i.steps, w)
        found = {
            "plain1": restored(step, plain, 1.0, False), "plain": restored(step, plain, w, False), "plain_optimised": restored(step, known, w, False),
            "null": edited_by_null_texts(step, few, empty, few.source, i.steps, w), "offsets": restored(step, known, w, True),
        }  # fmt: skip
        return {name: float(judged.psnr_db(x.numpy(), asked.images[: len(x)]).mean()) for name, x in found.items()}

    def _look(self, x: torch.Tensor, asked: Asked) -> Edited:
        net, images = self.yardstick.net, x.numpy()
        return Edited(
            [bool(v) for v in judged.accepted(net, images, asked)], [float(v) for v in judged.away(images, asked)],
            [float(v) for v in judged.away_in_features(net, images, asked)], judged.rest_kept(net, images, asked),
        )  # fmt: skip

    # ---- what is handed over

    def _hand_over(self, form: str, checkpoint: Checkpoint, way: Choice) -> tuple[Asked, Edits, Way]:
        """The network with its prepared edits: the held-out ones and some of validation for calibrators, or the user's own."""
        o, step = self.options, _step(checkpoint)
        asked = own(o.edit, o.edits.heads, self.split, self.yardstick.net) if o.edit.picture else self.test.first(o.edits.deployed)
        stored = asked if o.edit.picture else asked.then(self.validation.first(SAMPLED))
        known, target = self._prepared(step, stored, way.guidance)
        words = judged.words_of(self.split.train)
        edits = Edits(known.latent, known.offsets, known.source, blended(target, known.source, way.blend), stored.names, words)
        chosen_ones = {n: (getattr(way, n),) for n in ("guidance", "switch", "keep", "blend")}
        fixed = dataclasses.replace(o.inversion, **chosen_ones)
        made_so = dataclasses.replace(o, inversion=fixed)
        how = Way(o.inversion.steps, way.guidance, switch_of(made_so), way.keep)
        images = answered(step.net, edits, how, "edit", edits_at(np.arange(len(asked)), made_so))["image"]
        recipe = {**self.stages.recipe, "inversion": {**self.stages.recipe["inversion"], **{n: list(v) for n, v in chosen_ones.items()}}}
        facts = {
            **checkpoint.facts, "form": form, "recipe": recipe, "way": dataclasses.asdict(how), "names": list(stored.names),
            "words": [list(w) for w in words], "scored": len(asked),
            "score": float(judged.accepted(self.yardstick.net, images, asked).mean()),
        }  # fmt: skip
        save_checkpoint(self.out / form, Carried(step.net, edits), facts)
        return stored, edits, how

    def _row(self, outcome: Outcome, checkpoint: Checkpoint, deployed: bool) -> dict[str, Any]:
        return {
            "label": f"edits, seed {outcome.seed}", "role": "model" if deployed else "baseline", "steps": None,
            "score": outcome.edits["injected"].accepted_share, "validation": None, "epochs": checkpoint.facts["epochs"],
            "seconds": self.stages.seconds(checkpoint), "spikes_per_neuron": {}, "estimates": [],
        }  # fmt: skip

    def _pictures(self, checkpoint: Checkpoint, way: Choice, handed: tuple[Asked, Edits, Way]) -> list[dict[str, str]]:
        """The source, what plain inversion makes of it, null texts, and the edit with the switch at several steps."""
        asked, step, i = self.test.first(SEEN), _step(checkpoint), self.options.inversion
        known, target = self._prepared(step, asked, way.guidance)
        plain = inverted(step, torch.from_numpy(asked.images), texts(step.net, asked.shows), i.steps, way.guidance)
        empty = null_texts(step, known, way.guidance, i.null_updates, i.null_rate)
        columns = [
            torch.from_numpy(asked.images), restored(step, plain, way.guidance, False),
            edited_by_null_texts(step, known, empty, known.source, i.steps, way.guidance),
            *(self._edited(step, known, target, way, share) for share in reversed(SEEN_SHARES)),
        ]  # fmt: skip
        rows = torch.stack(columns, 1).flatten(0, 1).float().numpy()
        write_png(self.out / "edits.png", grid(rows, len(columns)))
        switches = ", ".join(f"{100 * s:.0f}" for s in reversed(SEEN_SHARES))
        said = f"source | plain inversion under guidance {way.guidance:g} | null texts | edits with the source's text for {switches} % of the steps: "
        found = [{"title": "Held-out edits, switch by switch", "file": "edits.png", "caption": said + "; ".join(asked.names)}]
        if self.options.edit.picture:
            stored, edits, how = handed
            every = answered(step.net, edits, how, "edit", {
                "edit": np.arange(len(stored))[:, None], "switch": np.full((len(stored), 1), how.switch, np.int64),
            })["image"]  # fmt: skip
            write_png(self.out / "own.png", grid(np.concatenate([stored.images[:1], every])))
            found.append({"title": "The own picture and its edits", "file": "own.png", "caption": "the source; " + "; ".join(stored.names)})
        return found


def _step(checkpoint: Checkpoint) -> Step:
    return Step(loaded(checkpoint).requires_grad_(False)).eval()
