"""How the two networks of every seed are trained and held against each other, and what is handed over to be deployed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np

from edgekit import files
from edgekit.checkpoint import Checkpoint, save_checkpoint
from edgekit.measurement import Progress
from edgekit.models._diffusion import quality
from edgekit.models._diffusion.data import Split
from edgekit.models._diffusion.yardstick import yardstick_of
from edgekit.models._stages import Stages
from edgekit.models._unidiffuser.captions import words_of
from edgekit.models._unidiffuser.deploy import SEED
from edgekit.models._unidiffuser.judges import judge_of
from edgekit.models._unidiffuser.net import Net
from edgekit.models._unidiffuser.options import ALONE, Options
from edgekit.models._unidiffuser.plans import KINDS, Kind, Walk
from edgekit.models._unidiffuser.sampler import drawn
from edgekit.models._unidiffuser.shown import captioned, said
from edgekit.models._unidiffuser.tables import CHOSEN_FOR, Found, Free, Guided, chosen, tables
from edgekit.models._unidiffuser.trained import SCORE, facts_of, loaded
from edgekit.models._unidiffuser.training import WORDS_WEIGHT, BothTask, Learner

STAGES = ("both", "alone")
VALIDATION_SEED, TEST_SEED = 1000, 2000  # of the noise: nobody chooses by the test's
SHOWN = 40  # pictures of a grid


class Fit:
    """One run of the recipe."""

    def __init__(self, options: Options, out: Path, progress: Progress, split: Split, fabric: Any) -> None:
        self.options, self.out, self.progress, self.split, self.fabric = options, out, progress, split, fabric
        self.words = words_of(split.train)
        self.yardstick = yardstick_of(fabric, split, progress)
        self.judges = {"validation": judge_of(fabric, split, progress, "captions-chooser"), "test": judge_of(fabric, split, progress)}
        self.stages = Stages("unidiffuser", options, out, progress, {"pictures": split.sha256}, fabric)

    def run(self) -> Path:
        """Train what is not trained yet, test what is not tested yet; the checkpoint folder to deploy."""
        made = {seed: {stage: self._made(stage, seed) for stage in STAGES} for seed in self.options.seeds}
        every = [self._guided(seed, made[seed]["both"], g) for seed in made for g in self.options.guidances]
        guidance: dict[Kind, float] = {kind: chosen(every, kind) for kind in CHOSEN_FOR}
        walks = {kind: self._walk(kind, guidance.get(kind, 1.0)) for kind in KINDS}
        free = [self._free(seed, made[seed], walks) for seed in made]
        best = max(made, key=lambda seed: self._validation(every, seed, guidance))
        if self.fabric.is_global_zero:
            self._hand_over(made[best]["both"], walks)
            result = {
                "score_name": SCORE, "test_samples": len(self.split.test), "deploy": "both",
                "rows": self._rows(every, made, guidance, best),
                "tables": tables(
                    every, free, self._floor(), fmean(quality.accuracies(self.judges["test"], self.split.test)), guidance,
                    {stage: [self.stages.seconds(m[stage]) for m in made.values()] for stage in STAGES}, self.options.pictures,
                ),
                "pictures": self._pictures(loaded(made[best]["both"]), loaded(made[best]["alone"]), walks),
            }  # fmt: skip
            files.write_text(self.out / "result.json", files.canonical_json(result))
        self.fabric.barrier()
        return self.out / "both"

    # ---- training

    def _made(self, stage: str, seed: int) -> Checkpoint:
        """A network that learns pictures and captions, or one of the same size that learns pictures only."""
        shape, sizes, width = self.split.train.images.shape, self.split.train.sizes, self.options.network.width
        shares, weight, plan = (self.options.shares, WORDS_WEIGHT, self.options.both) if stage == "both" else (ALONE, 0.0, self.options.alone)

        def start() -> tuple[Learner, BothTask]:
            net = Net(shape[1], shape[2], sizes, width)
            return Learner(net), BothTask(self.split, net, shares, weight)

        decided_by = {"width": width, "shares": dataclasses.asdict(shares), "words_weight": weight}
        return self.stages.made(stage, seed, plan, [], decided_by, start, facts_of)

    # ---- what came of it

    def _walk(self, kind: Kind, guidance: float = 1.0) -> Walk:
        steps = self.options.words_steps if kind in ("image-to-text", "text") else self.options.steps
        return Walk(kind, steps, guidance)

    def _guided(self, seed: int, checkpoint: Checkpoint, guidance: float) -> Guided:
        """A network with a guidance, on validation and on test pictures."""

        def compute() -> Any:
            self.progress(f"seed {seed}: tasks", self.options.guidances.index(guidance), len(self.options.guidances))
            net = loaded(checkpoint)
            found = {part: self._found(net, part, seed, guidance) for part in ("validation", "test")}
            return dataclasses.asdict(Guided(seed, guidance, **found))

        told = {"steps": self.options.steps, "words_steps": self.options.words_steps}
        return Guided.from_json(self.stages.stored(checkpoint, f"guided{guidance:g}", compute, told))

    def _found(self, net: Net, which: Literal["validation", "test"], seed: int, guidance: float) -> Found:
        part, judge = getattr(self.split, which), self.judges[which]
        at = VALIDATION_SEED if which == "validation" else TEST_SEED + seed
        images, _ = drawn(net, self._walk("text-to-image", guidance), at, words=part.conditions)
        _, words = drawn(net, self._walk("image-to-text", guidance), at, images=part.images)
        pair = drawn(net, self._walk("joint", guidance), at, count=len(part))
        return Found(
            quality.shown(judge, images, part.conditions), self.yardstick.distance(images), float((words == part.conditions).mean()),
            quality.shown(judge, *pair), self.yardstick.distance(pair[0]),
        )  # fmt: skip

    def _free(self, seed: int, made: Mapping[str, Checkpoint], walks: Mapping[Kind, Walk]) -> Free:
        """What the networks of a seed make of nothing, and the two variations."""

        def compute() -> Any:
            self.progress(f"seed {seed}: pictures and words of nothing", 0, 1)
            net, alone, part, judge = loaded(made["both"]), loaded(made["alone"]), self.split.test, self.judges["test"]
            count, at = self.options.pictures, TEST_SEED + seed
            own, other = (self.yardstick.distance(drawn(n, self._walk("image"), at, count=count)[0]) for n in (net, alone))
            _, words = drawn(net, self._walk("text"), at, count=count)
            _, told = drawn(net, walks["image-to-text"], at, images=part.images)
            varied, _ = drawn(net, walks["text-to-image"], at, words=told)
            images, _ = drawn(net, walks["text-to-image"], at, words=part.conditions)
            _, again = drawn(net, walks["image-to-text"], at, images=images)
            return dataclasses.asdict(Free(
                seed, own, other, self._words_apart(words), quality.shown(judge, varied, part.conditions), float((again == part.conditions).mean())
            ))  # fmt: skip

        told = {"alone": made["alone"].sha256, "count": self.options.pictures, "walks": [dataclasses.asdict(w) for w in walks.values()]}
        return Free(**self.stages.stored(made["both"], "free", compute, told))

    def _words_apart(self, words: np.ndarray) -> float:
        learned, apart = self.split.train.conditions, []
        for place, count in enumerate(self.split.train.sizes):
            shares = (np.bincount(v[:, place], minlength=count) / len(v) for v in (words, learned))
            apart.append(float(np.abs(np.subtract(*shares)).sum() / 2))
        return fmean(apart)

    def _floor(self) -> float:
        """Of as many real held-out pictures as are made of nothing; their number is drawn by chance too."""
        rows = np.random.default_rng(TEST_SEED).integers(0, len(self.split.test), self.options.pictures)
        return self.yardstick.distance(self.split.test.images[rows])

    def _validation(self, every: Sequence[Guided], seed: int, guidance: Mapping[Kind, float]) -> float:
        """The mean over the three tasks, each with its guidance, on validation pictures."""
        return fmean(getattr(e.validation, f) for kind, f in CHOSEN_FOR.items() for e in every if (e.seed, e.guidance) == (seed, guidance[kind]))

    def _hand_over(self, checkpoint: Checkpoint, walks: Mapping[Kind, Walk]) -> None:
        """The weights as the form that is deployed: with its walks, and its score with the deployed program's noise."""
        net, test = loaded(checkpoint), self.split.test
        images, _ = drawn(net, walks["text-to-image"], SEED, words=test.conditions)
        score = quality.shown(self.judges["test"], images, test.conditions)
        facts = {"form": "both", "walks": [dataclasses.asdict(w) for w in walks.values()], "score": score}
        save_checkpoint(self.out / "both", net, {**checkpoint.facts, **facts})

    def _rows(
        self, every: Sequence[Guided], made: Mapping[int, Mapping[str, Checkpoint]], guidance: Mapping[Kind, float], best: int
    ) -> list[dict[str, Any]]:
        at, rows = guidance["text-to-image"], []
        for e in every:
            if e.guidance in (1.0, at):
                checkpoint = made[e.seed]["both"]
                rows.append({
                    "label": f"pictures and captions, guidance {e.guidance:g}, seed {e.seed}",
                    "role": "model" if (e.seed, e.guidance) == (best, at) else "baseline", "steps": None, "score": e.test.image,
                    "validation": e.validation.image, "epochs": checkpoint.facts["epochs"], "seconds": self.stages.seconds(checkpoint),
                    "spikes_per_neuron": {}, "estimates": [],
                })  # fmt: skip
        return sorted(rows, key=lambda r: bool(r["role"] != "model"))

    def _pictures(self, net: Net, alone: Net, walks: Mapping[Kind, Walk]) -> list[dict[str, str]]:
        """Pictures of captions, pairs, captions of held-out pictures, and what both networks make of nothing."""
        part = self.split.test.take(np.linspace(0, len(self.split.test) - 1, SHOWN).astype(np.int64))
        asked = part.conditions if len(self.words) > 1 else (np.arange(SHOWN) % len(self.words[0]))[:, None]
        images, _ = drawn(net, walks["text-to-image"], TEST_SEED, words=asked)
        pairs = drawn(net, walks["joint"], TEST_SEED, count=SHOWN)
        _, captions = drawn(net, walks["image-to-text"], TEST_SEED, images=part.images)
        nothing = [drawn(n, walks["image"], TEST_SEED, count=SHOWN)[0] for n in (net, alone)]
        shown = {
            "text-to-image": ("Text to image", "asked for what is written below each", images, said(self.words, asked)),
            "joint": ("Both together", "picture and caption are made in the same steps, of nothing", pairs[0], said(self.words, pairs[1])),
            "image-to-text": ("Image to text", "held-out pictures with the captions that they are given", part.images, said(self.words, captions)),
            "image": ("Images of nothing", "by the network of pictures and captions", nothing[0], [""] * SHOWN),
            "alone": ("Images of nothing, by the other network", "which learned pictures only, from the same noise", nothing[1], [""] * SHOWN),
        }
        for name, (_, _, found, below) in shown.items():
            files.write_bytes(self.out / f"{name}.png", captioned(found, below, 10 if found.shape[1] == 1 else 8))
        return [{"title": title, "file": f"{name}.png", "caption": caption} for name, (title, caption, _, _) in shown.items()]
