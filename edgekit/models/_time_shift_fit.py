"""How shifted time is held against the plain sampler: the same network, the same noise, and a control that shifts at random."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgekit import files
from edgekit.checkpoint import Checkpoint, save_checkpoint
from edgekit.measurement import Progress
from edgekit.models._diffusion.data import Pictures, Split
from edgekit.models._diffusion.deploy import SEED
from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.plans import Sampling
from edgekit.models._diffusion.sampler import sample
from edgekit.models._diffusion.stages import Stages, loaded
from edgekit.models._diffusion.step import nearest
from edgekit.models._diffusion.yardstick import drawn, yardstick_of
from edgekit.models._time_shift_options import Loop, Options
from edgekit.picture_grid import grid, write_png

FORMS = ("shifted", "plain")
SEEN = 40  # pictures of a grid
AT_ONCE = 250  # pictures; their noise follows the seed of their part


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A shift of a loop: how far the feature distance of validation pictures fell by it."""

    loop: Loop
    mode: str
    window: int
    cutoff: int
    change: float

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.loop.kind}, {self.loop.steps} steps, {self.mode}"

    @property
    def shift(self) -> str:
        """For people too."""
        return f"{self.window} to {self.cutoff}"

    @property
    def sampling(self) -> Sampling:
        """The loop with its shift."""
        return Sampling(self.loop.steps, self.loop.kind, shift=self.mode, window=self.window, cutoff=float(self.cutoff))  # type: ignore[arg-type]


class Fit:
    """One run of the recipe."""

    def __init__(self, options: Options, out: Path, progress: Progress, split: Split, fabric: Any) -> None:
        self.options, self.out, self.progress, self.split, self.fabric = options, out, progress, split, fabric
        self.yardstick = yardstick_of(fabric, split, progress)
        self.stages = Stages("time_shift", options, out, progress, split, fabric)

    def run(self) -> Path:
        """Train, choose each shift by validation, then report on fresh seeds; the checkpoint folder to deploy."""
        o = self.options
        teacher = self.stages.teacher(o.seed, o.teacher, o.network.width)
        net = loaded(teacher)
        key = files.hash_of(self.stages.recipe)[:12]
        trials = [
            Chosen(Loop(**c.pop("loop")), **c)
            for c in self.stages.stored(teacher, f"trials-{key}", lambda: [dataclasses.asdict(c) for c in self._trials(net)])
        ]
        ways = dict.fromkeys((c.loop, c.mode) for c in trials)
        best = [min((c for c in trials if (c.loop, c.mode) == way), key=lambda c: c.change) for way in ways]
        found = self.stages.stored(teacher, f"fresh-{key}", lambda: [self._fresh(net, c) for c in best])
        deployed = next(c for c in best if c.loop == o.loops[0] and c.mode == o.mode)
        form = "shifted" if deployed.change < 0 else "plain"  # where no shift helps on validation conditions, none is deployed
        if self.fabric.is_global_zero:
            plain = Sampling(deployed.loop.steps, deployed.loop.kind)
            scores = {f: self._hand_over(f, teacher, net, s) for f, s in (("shifted", deployed.sampling), ("plain", plain))}
            result = {
                "score_name": "floor / feature-FID", "test_samples": len(self.split.test), "deploy": form,
                "rows": sorted((self._row(f, scores[f], teacher, f == form) for f in FORMS), key=lambda r: bool(r["role"] != "model")),
                "tables": self._tables(trials, best, found), "pictures": self._pictures(net, plain, deployed.sampling),
            }  # fmt: skip
            files.write_text(self.out / "result.json", files.canonical_json(result))
        self.fabric.barrier()
        return self.out / form

    def _trials(self, net: UNet) -> list[Chosen]:
        """Every window and cutoff of every loop, both modes, on validation conditions and one seed of noise."""
        o, found = self.options, []
        every = [(loop, m, w, c) for loop in o.loops for m in ("paper", "landing") for w in o.windows for c in o.cutoffs]
        plain = {loop: self._distance(net, Sampling(loop.steps, loop.kind), self.split.validation, 0) for loop in o.loops}
        for i, (loop, mode, window, cutoff) in enumerate(every):
            self.progress("choosing shifts", i, len(every))
            trial = Chosen(loop, mode, window, cutoff, 0.0)
            fid = self._distance(net, trial.sampling, self.split.validation, 0)
            found.append(dataclasses.replace(trial, change=fid / plain[loop] - 1))
        return found

    def _fresh(self, net: UNet, chosen: Chosen) -> dict[str, list[float]]:
        """Of each fresh seed the feature distance without a shift, with it, and with the shifts of other pictures."""
        plain, seeds = Sampling(chosen.loop.steps, chosen.loop.kind), self.options.noise_seeds
        found: dict[str, list[float]] = {"plain": [], "shifted": [], "shuffled": []}
        for i, seed in enumerate(seeds):
            self.progress(f"{chosen.loop.kind}, {chosen.loop.steps} steps, {chosen.mode}: fresh seeds", i, len(seeds))
            found["plain"].append(self._distance(net, plain, self.split.test, seed))
            found["shifted"].append(self._distance(net, chosen.sampling, self.split.test, seed))
            found["shuffled"].append(self._distance(net, chosen.sampling, self.split.test, seed, shuffled=True))
        return found

    def _distance(self, net: UNet, sampling: Sampling, part: Pictures, seed: int, shuffled: bool = False) -> float:
        """The feature distance of `pictures` pictures; the conditions repeat, the noise does not."""
        conditions = part.conditions[np.arange(self.options.pictures) % len(part)]
        made = []
        for k, at in enumerate(range(0, len(conditions), AT_ONCE)):
            own = torch.from_numpy(conditions[at : at + AT_ONCE])
            noise = 1000 * seed + k
            order = torch.from_numpy(np.random.default_rng(noise).permutation(len(own)))
            decide = partial(_of_another, order) if shuffled else nearest
            made.append(sample(net, sampling, own, noise, decide).numpy())
        return self.yardstick.distance(np.concatenate(made).clip(-1, 1))

    def _hand_over(self, form: str, checkpoint: Checkpoint, net: UNet, sampling: Sampling) -> float:
        test = self.split.test
        score = self.yardstick.floor(test) / self.yardstick.distance(drawn(net, sampling, test.conditions, SEED))
        save_checkpoint(self.out / form, net, {**checkpoint.facts, "form": form, "sampling": dataclasses.asdict(sampling), "score": score})
        return score

    def _row(self, form: str, score: float, teacher: Checkpoint, deployed: bool) -> dict[str, Any]:
        return {
            "label": f"sampler, {form}", "role": "model" if deployed else "baseline", "steps": None, "score": score,
            "validation": None, "epochs": teacher.facts["epochs"], "seconds": self.stages.seconds(teacher), "spikes_per_neuron": {}, "estimates": [],
        }  # fmt: skip

    def _tables(self, trials: list[Chosen], best: list[Chosen], found: list[dict[str, list[float]]]) -> list[dict[str, Any]]:
        rows: list[list[Any]] = []
        for chosen, fids in zip(best, found, strict=True):
            for i, seed in enumerate(self.options.noise_seeds):
                plain = fids["plain"][i]
                control = fids["shuffled"][i]
                rows.append([
                    chosen.words, chosen.shift, seed, round(plain, 3), round(fids["shifted"][i], 3), _percent(fids["shifted"][i] / plain - 1),
                    round(control, 3), _percent(control / plain - 1),
                ])  # fmt: skip
        of = f"{self.options.pictures} pictures"
        gains = [fmean(s / p for s, p in zip(f["shifted"], f["plain"], strict=True)) - 1 for f in found]
        fresh = {
            "title": "Shifted time on fresh seeds of noise, test conditions",
            "columns": ["sampler", "shift", "seed", "plain", "shifted", "change", "control", "its change"], "rows": rows,
            "caption": (
                f"Feature-FID of {of}, each pair from the same noise. shift: window in levels, and the level down to which it holds. The control "
                "gives every picture the shift that another one's variance asked for: what is gained there too was not gained by matching "
                "variances. Mean changes: " + ", ".join(f"{c.words} {_percent(g)}" for c, g in zip(best, gains, strict=True)) + "."
            ),
        }  # fmt: skip
        chosen_rows = [[c.words, c.shift, _percent(c.change), "yes" if c in best else ""] for c in trials]
        choice = {
            "title": "How the shifts were chosen", "columns": ["sampler", "shift", "change", "chosen"],
            "rows": chosen_rows, "caption": f"Feature-FID of {of} in validation conditions, one seed of noise.",
        }  # fmt: skip
        return [fresh, choice]

    def _pictures(self, net: UNet, plain: Sampling, shifted: Sampling) -> list[dict[str, str]]:
        rows = np.linspace(0, len(self.split.test) - 1, SEEN).astype(np.int64)
        conditions = self.split.test.conditions[rows]
        found = []
        for name, sampling in (("plain", plain), ("shifted", shifted)):
            write_png(self.out / f"{name}.png", grid(drawn(net, sampling, conditions, SEED), 10))
            title = f"{sampling.kind}, {sampling.steps} steps, {name}"
            found.append({"title": title, "file": f"{name}.png", "caption": "the same conditions and noise in both grids"})
        return found


def _of_another(order: Tensor, x: Tensor, noises: Tensor) -> Tensor:
    """The control: what the variance of another picture asks for."""
    return nearest(x, noises)[order]


def _percent(share: float) -> str:
    return f"{100 * share:+.1f} %"
