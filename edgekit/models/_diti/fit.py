"""How codes are trained and held side by side: every stage of every seed is a checkpoint, made once, probed once, swapped once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgekit import files
from edgekit.checkpoint import Checkpoint, save_checkpoint
from edgekit.errors import EdgekitError
from edgekit.measurement import Progress
from edgekit.models._diffusion import quality, yardstick
from edgekit.models._diffusion.data import Split
from edgekit.models._diti.counterfactual import COARSE, EVERY, FINE, NONE, Swapper, judged, pairs_of, swaps_of
from edgekit.models._diti.deploy import Encode
from edgekit.models._diti.known import known
from edgekit.models._diti.net import Coder
from edgekit.models._diti.options import Options
from edgekit.models._diti.probe import STRENGTHS, Codes, Probe, Probed, Scaling, draws, fitted, principal, probed
from edgekit.models._diti.stages import STAGES, Deployed, Made, base_of, coder_of, random_coder
from edgekit.models._diti.tables import Outcome, tables
from edgekit.picture_grid import grid, write_png

SEEN = 8  # pairs of the grid of swaps
FORM = "encoder"  # the folder to deploy
LEARNED = ("diti", "pdae", "autoencoder")
ALIKE = ("pca", "whitened")  # for every seed
AT_ONCE = 500


class Fit:
    """One run of the recipe."""

    def __init__(self, options: Options, out: Path, progress: Progress, split: Split, fabric: Any) -> None:
        self.options, self.out, self.progress, self.split, self.fabric = options, out, progress, split, fabric
        if (most := options.probes.labels[-1]) > len(split.train):
            raise EdgekitError(f"probes of {most} labels were asked for, {split.name} has {len(split.train)} training pictures; ask for fewer")
        self.made = Made(options, out, progress, split, fabric)

    def run(self) -> Path:
        """Train what is not trained yet, test what is not tested yet; the checkpoint folder to deploy."""
        stages = {seed: self.made.of_seed(seed) for seed in self.options.seeds}
        outcomes: dict[int, Outcome] = {}
        for seed, made in stages.items():
            outcomes[seed] = self._outcome(seed, made, next((o.probes for o in outcomes.values()), {}))
        best = max(outcomes, key=lambda seed: outcomes[seed].to_choose_by)
        if self.fabric.is_global_zero:
            seconds = {stage: [self.made.plain.seconds(made[stage]) for made in stages.values()] for stage in STAGES}
            result = {
                "score_name": "accuracy of a linear probe", "test_samples": len(self.split.test), "deploy": FORM,
                "rows": self._rows(outcomes, stages, best),
                "tables": tables(list(outcomes.values()), self.split.test.heads, self.options.network.groups, seconds, self.split.name),
                "pictures": self._pictures(stages[best]),
            }  # fmt: skip
            self._hand_over(stages[best], outcomes[best])
            files.write_text(self.out / "result.json", files.canonical_json(result))
        self.fabric.barrier()
        return self.out / FORM

    # ---- what came of it

    def _outcome(self, seed: int, made: Mapping[str, Checkpoint], found_before: Mapping[str, tuple[Probed, ...]]) -> Outcome:
        """Probes of every code of a seed, what the code is worth to the base, and swaps; each from its file, or computed now. found_before:
        probes of another seed, or none."""
        asked, pairs = dataclasses.asdict(self.options.probes), dataclasses.asdict(self.options.swaps)
        told = {**asked, "strengths": STRENGTHS, "pictures": self._labels}
        found: dict[str, list[Probed]] = {}
        both: tuple[Scaling, ...] = ("each", "together")
        codes: dict[str, tuple[Checkpoint, Callable[[], Codes], tuple[Scaling, ...]]] = {
            **{name: (made[name], partial(self._learned, made[name]), both) for name in LEARNED},
            "random": (made["base"], lambda: self._codes(random_coder(self.options.network, self.split, seed)), both),
            "pca": (made["base"], self._principal, ("together",)), "whitened": (made["base"], self._principal, ("each",)),
        }  # fmt: skip
        for i, (name, (checkpoint, get, scalings)) in enumerate(codes.items()):
            self.progress(f"linear probes, seed {seed}: {name}", i, len(codes))

            def compute(name: str = name, get: Callable[[], Codes] = get, scalings: tuple[Scaling, ...] = scalings) -> Any:
                if name not in ALIKE or not found_before:
                    return [dataclasses.asdict(p) for p in probed(get(), self.split, asked["labels"], asked["draws"], scalings)]
                return [dataclasses.asdict(p) for p in found_before[name]]

            shape = {**told, "dims": sum(self.options.network.groups), "encoder": self.options.network.encoder}
            found[name] = [Probed(**p) for p in self.made.plain.stored(checkpoint, f"probe-{name}", compute, shape)]
        net = self._deployed(made)
        self.progress(f"swaps, seed {seed}", 0, 1)
        swaps = self.made.plain.stored(
            made["diti"], "swaps", lambda: judged(net, self.judge, self.split.test, self.options.swaps.pairs, self.options.swaps.steps),
            {**pairs, "pictures": self._labels},
        )  # fmt: skip
        worth = self.made.plain.stored(made["diti"], "known", lambda: known(net, self.split.test.images))
        return Outcome(seed, {name: tuple(p) for name, p in found.items()}, tuple(worth), tuple(swaps))

    @cached_property
    def _labels(self) -> str:
        return self.split.sha256

    @cached_property
    def judge(self) -> quality.FeatureNet:
        """The classifier of a data set: it has learned from labels, and from nothing that is tested here."""
        return quality.feature_net(self.fabric, self.split, yardstick.folder(self.split.name), self.progress)

    @cached_property
    def _components(self) -> Codes:
        return principal(self.split, sum(self.options.network.groups))

    def _principal(self) -> Codes:
        return self._components

    def _learned(self, checkpoint: Checkpoint) -> Codes:
        return self._codes(coder_of(checkpoint))

    def _codes(self, coder: Coder) -> Codes:
        encode = Encode(coder.encoder).eval()
        return Codes(*(codes_of(encode, part.images) for part in (self.split.train, self.split.validation, self.split.test)))

    def _deployed(self, made: Mapping[str, Checkpoint]) -> Deployed:
        return Deployed(base_of(made["base"]), coder_of(made["diti"])).eval()

    # ---- what is handed over

    def _hand_over(self, made: Mapping[str, Checkpoint], outcome: Outcome) -> None:
        """Base and coder in one checkpoint, with a probe of the first draw of the most labels."""
        net, last = self._deployed(made), outcome.probes["diti"][-1]
        codes = self._codes(net.coder)
        rows = draws(len(self.split.train), last.labels, 1)[0]
        probe = Probe.from_json(fitted(codes.train, self.split.train, rows, last.strength, last.scaling).to_json())
        score = float(probe.right(codes.test, self.split.test.conditions).mean())
        base, coder = made["base"].facts, made["diti"].facts
        facts = {**base, **coder, "width": base["width"], "form": FORM, "probe": probe.to_json(), "score": score}
        save_checkpoint(self.out / FORM, net, {**facts, "parameters": sum(p.numel() for p in net.parameters())})

    def _rows(self, outcomes: Mapping[int, Outcome], stages: Mapping[int, Mapping[str, Checkpoint]], best: int) -> list[dict[str, Any]]:
        """One row a learned code and seed, the deployed one first."""
        rows = []
        for seed, outcome in outcomes.items():
            for name in LEARNED:
                checkpoint, last = stages[seed][name], outcome.probes[name][-1]
                rows.append({
                    "label": f"{name}, seed {seed}, {last.labels} labels", "role": "model" if (name, seed) == ("diti", best) else "baseline",
                    "steps": None, "score": last.test, "validation": last.validation, "epochs": checkpoint.facts["epochs"],
                    "seconds": self.made.plain.seconds(checkpoint), "spikes_per_neuron": {}, "estimates": [],
                })  # fmt: skip
        return sorted(rows, key=lambda r: bool(r["role"] != "model"))

    def _pictures(self, made: Mapping[str, Checkpoint]) -> list[dict[str, str]]:
        """A grid of swaps."""
        net, part = self._deployed(made), self.split.test
        first, second = (rows[:SEEN] for rows in pairs_of(part, SEEN))
        every = swaps_of(net.coder.groups)
        shown = [NONE, FINE, COARSE, EVERY]
        drawn = Swapper(net, self.options.swaps.steps)(part.images[first], part.images[second], {name: every[name] for name in shown})
        columns = [part.images[first], part.images[second], *(drawn[name].clip(-1, 1) for name in shown)]
        write_png(self.out / "swaps.png", grid(np.stack(columns, 1).reshape(-1, *part.images.shape[1:]), len(columns)))
        says = (
            "A row a pair of held-out pictures: source, other, and the source drawn anew with no group of the other, with its finer half of the "
            "groups, with its coarser half, with all."
        )
        return [{"title": "Groups taken over from another picture", "file": "swaps.png", "caption": says}]


@torch.no_grad()
def codes_of(encode: Encode, images: np.ndarray) -> np.ndarray:
    """Codes of pictures float32 (N, C, H, W): float32 (N, dims)."""
    found = [encode(torch.from_numpy(images[at : at + AT_ONCE])).numpy() for at in range(0, len(images), AT_ONCE)]
    return np.concatenate(found)


