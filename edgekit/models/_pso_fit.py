"""How a few-step student is tuned to a preference three ways, and what each way gains and loses."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import files
from edgekit.checkpoint import Checkpoint, save_checkpoint
from edgekit.measurement import Progress
from edgekit.models._diffusion import quality
from edgekit.models._diffusion.data import Pictures, Split
from edgekit.models._diffusion.deploy import SEED
from edgekit.models._diffusion.distil import ConsistencyTask, WithTarget
from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.plans import Sampling
from edgekit.models._diffusion.preference import NaiveTask, OfflineTask, OnlineTask
from edgekit.models._diffusion.rewards import reward_of
from edgekit.models._diffusion.stages import Stages, loaded
from edgekit.models._diffusion.targets import asked_of, pictures_of
from edgekit.models._diffusion.training import Learner
from edgekit.models._diffusion.yardstick import drawn, yardstick_of
from edgekit.models._pso_options import Options
from edgekit.models._pso_tables import Outcome, tables
from edgekit.picture_grid import grid, write_png
from edgekit.train import Task

WAYS = ("online", "offline", "naive")
VALIDATION_SEED, TEST_SEED, OWN_SEED = 1000, 2000, 3000  # of the noise; OWN_SEED: of the student's own pictures, which offline tuning leaves
SEEN = 40  # pictures of a grid
MADE_SO = {"figures": [f.name for f in dataclasses.fields(Outcome)]}  # what decides a stored outcome, besides the tuning
OUTSIDE = 1000.0  # what a gain outside the limits loses: no gain is as large
MARGIN = 0.8  # of what sharpness and attributes may change: a validation part says it only roughly


class Fit:
    """One run of the recipe."""

    def __init__(self, options: Options, out: Path, progress: Progress, split: Split, fabric: Any) -> None:
        self.options, self.out, self.progress, self.split, self.fabric = options, out, progress, split, fabric
        self.sampling = Sampling(options.steps, "renoise")
        self.yardstick = yardstick_of(fabric, split, progress)
        self.reward = reward_of(options.preference.reward, fabric, split, progress, options.targets)
        self.stages = Stages("pso", options, out, progress, split, fabric)
        self.targets = pictures_of(options.targets, split, self.reward)
        asked = partial(asked_of, options.targets, split=split)
        self.train, self.validation, self.test = asked(split.train), asked(split.validation), asked(split.test)

    def run(self) -> Path:
        """Train what is not trained yet, test what is not tested yet; the checkpoint folder to deploy."""
        made = {seed: self._made(seed) for seed in self.options.seeds}
        outcomes = [
            Outcome.from_json(self.stages.stored(checkpoint, "test", partial(self._outcome, checkpoint), {**self._told(), **MADE_SO}))
            for stages in made.values() for checkpoint in stages.values()
        ]  # fmt: skip
        form = self.options.deploy_form
        chosen = max((o for o in outcomes if o.stage == form), key=lambda o: (o.within, o.validation_gain))
        if self.fabric.is_global_zero:
            for stage, checkpoint in made[chosen.seed].items():
                self._hand_over(stage, checkpoint)
            floor = self.yardstick.floor(self.split.test)
            result = {
                "score_name": "floor / feature-FID", "test_samples": len(self.test), "deploy": form,
                "rows": sorted(
                    (self._row(o, made[o.seed][o.stage], floor) for o in outcomes if o.seed == chosen.seed), key=lambda r: bool(r["role"] != "model")
                ),
                "tables": tables(outcomes, self.options, self._real()), "pictures": self._pictures(made[chosen.seed]),
            }  # fmt: skip
            files.write_text(self.out / "result.json", files.canonical_json(result))
        self.fabric.barrier()
        return self.out / form

    # ---- training

    def _made(self, seed: int) -> dict[str, Checkpoint]:
        """The student of a seed, as it is and tuned in every way."""
        o = self.options
        teacher = self.stages.teacher(seed, o.teacher, o.network.width)

        def distilled() -> tuple[Learner, Task]:
            return WithTarget(loaded(teacher)), ConsistencyTask(self.split, loaded(teacher), o.guidance, self._nearness)

        student = self.stages.made("student", seed, o.consistency, [teacher], {"guidance": o.guidance, "steps": o.steps}, distilled)
        made, told = {"student": student}, self._told()
        for way in WAYS:
            plan = o.online if way == "online" else o.offline

            def tuned(way: str = way) -> tuple[Learner, Task]:
                learner = Learner(loaded(student))
                return learner, self._task(way, learner)

            made[way] = self.stages.made(way, seed, plan, [student], told, tuned)
        return made

    def _told(self) -> dict[str, Any]:
        """What decides the tuning of a student, besides the plans."""
        aims = hashlib.sha256(self.targets.images.tobytes() + self.targets.conditions.tobytes()).hexdigest()
        o = self.options
        return {"preference": dataclasses.asdict(o.preference), "asked": o.targets.asked, "targets": aims, "steps": o.steps}

    def _nearness(self, net: UNet) -> float:
        """Minus the feature distance on validation conditions."""
        return -self.yardstick.distance(drawn(net, self.sampling, self.split.validation.conditions, VALIDATION_SEED))

    def _task(self, way: str, learner: Learner) -> Task:
        o, p = self.options, self.options.preference
        if way == "online":
            return OnlineTask(
                learner, self.train.conditions, self.reward, self._judge(learner.net), pairs=p.pairs, steps=o.steps, beta=p.beta_online
            )
        own = drawn(learner.net, self.sampling, self.targets.conditions, OWN_SEED)
        # The control is kept after the same number of updates, whatever they did: its judge is the number of its calls.
        judge = self._judge(learner.net) if way == "offline" else _later()
        kind = OfflineTask if way == "offline" else NaiveTask
        return kind(learner, self.targets, own, judge, steps=o.steps, beta=p.beta_offline)

    def _judge(self, student: UNet) -> Callable[[UNet], float]:
        """The gain of a network, far below any other where it is outside the limits."""
        gained = self._gained(student)

        def judge(net: UNet) -> float:
            gain, within = gained(net)
            return gain if within else gain - OUTSIDE

        return judge

    def _gained(self, student: UNet) -> Callable[[UNet], tuple[float, bool]]:
        """(mean reward in standard deviations above the student's, whether the pictures are as sharp and show what was asked), on
        validation conditions."""
        p, before = self.options.preference, self._look(student, self.validation, VALIDATION_SEED)
        bounds = {before["sharpness"], self._aimed(before["sharpness"])}

        def gained(net: UNet) -> tuple[float, bool]:
            now = self._look(net, self.validation, VALIDATION_SEED)
            off = MARGIN * p.sharpness_within
            sharp = (1 - off) * min(bounds) <= now["sharpness"] <= (1 + off) * max(bounds)
            told = now["shown"] is None or before["shown"] - now["shown"] <= MARGIN * p.shown_within
            return (now["reward"] - before["reward"]) / before["sd"], sharp and told

        return gained

    def _aimed(self, before: float) -> float:
        """The sharpness that tuned pictures may have beside the student's: of the targets, where they are of another kind."""
        t = self.options.targets
        return quality.sharpness(self.targets.images) if t.show or t.folder else before

    # ---- what came of it

    def _look(self, net: UNet, part: Pictures, seed: int) -> dict[str, Any]:
        images = drawn(net, self.sampling, part.conditions, seed)
        rewards, asked = self.reward(images), self._asked(part)
        left = (asked < np.array(part.sizes)).any()  # not where the only head is the rewarded one
        return {
            "reward": float(rewards.mean()), "sd": float(rewards.std(ddof=1)), "sharpness": quality.sharpness(images),
            "shown": quality.shown(self.yardstick.net, images, asked) if left else None, "fid": self.yardstick.distance(images),
            "target_fid": quality.feature_fid(
                quality.features(self.yardstick.net, images), quality.features(self.yardstick.net, self.targets.images)
            ),
        }  # fmt: skip

    def _asked(self, part: Pictures) -> np.ndarray:
        """The conditions, without what is meant to be shown whether it was asked for or not: what is rewarded, and what the targets show
        instead of what is asked for."""
        t = self.options.targets
        changed = [self.options.preference.reward, *([t.asked] if t.show or t.folder else [])]
        found = part.conditions.copy()
        for head in {c.partition("=")[0] for c in changed} & set(part.heads):
            found[:, part.heads.index(head)] = part.sizes[part.heads.index(head)]
        return found

    def _outcome(self, checkpoint: Checkpoint) -> dict[str, Any]:
        facts = checkpoint.facts
        net, seed = loaded(checkpoint), int(facts["seed"])
        student = loaded(self._made(seed)["student"])
        gain, within = self._gained(student)(net)
        look = self._look(net, self.test, TEST_SEED + seed)
        return Outcome(str(facts["stage"]), seed, int(facts["kept_epoch"]), int(facts["epochs"]), gain, within, **look).to_json()

    def _real(self) -> dict[str, float]:
        """Reward and sharpness of real pictures: of the test part, and of the targets."""
        test, targets = self.test, self.targets
        return {
            "reward": float(self.reward(test.images).mean()), "sharpness": quality.sharpness(test.images),
            "target_reward": float(self.reward(targets.images).mean()),
            "target_sharpness": quality.sharpness(targets.images),
        }  # fmt: skip

    def _hand_over(self, form: str, checkpoint: Checkpoint) -> None:
        net, test = loaded(checkpoint), self.split.test
        score = self.yardstick.floor(test) / self.yardstick.distance(drawn(net, self.sampling, test.conditions, SEED))
        facts = {**checkpoint.facts, "form": form, "sampling": dataclasses.asdict(self.sampling), "score": score}
        save_checkpoint(self.out / form, net, facts)

    def _row(self, outcome: Outcome, checkpoint: Checkpoint, floor: float) -> dict[str, Any]:
        return {
            "label": f"{outcome.label}, seed {outcome.seed}", "role": "model" if outcome.stage == self.options.deploy_form else "baseline",
            "steps": None, "score": floor / outcome.fid, "validation": None,
            "epochs": outcome.epochs, "seconds": self.stages.seconds(checkpoint), "spikes_per_neuron": {}, "estimates": [],
        }  # fmt: skip

    def _pictures(self, stages: Mapping[str, Checkpoint]) -> list[dict[str, str]]:
        rows = np.linspace(0, len(self.test) - 1, SEEN).astype(np.int64)
        conditions = self.test.conditions[rows]
        said = {"student": "as distilled", "online": "tuned online", "offline": "tuned offline", "naive": "the control, tuned by the diffusion loss"}
        aims = self.targets.images[np.linspace(0, len(self.targets.images) - 1, min(SEEN, len(self.targets.images))).astype(np.int64)]
        write_png(self.out / "targets.png", grid(aims, 10))
        found = [{"title": "Targets", "file": "targets.png", "caption": "some of the pictures that offline tuning and the control learn from"}]
        for stage, checkpoint in stages.items():
            write_png(self.out / f"{stage}.png", grid(drawn(loaded(checkpoint), self.sampling, conditions, TEST_SEED), 10))
            found.append({"title": f"Student, {said[stage]}", "file": f"{stage}.png", "caption": "the same conditions and noise in every grid"})
        return found


def _later() -> Callable[[UNet], float]:
    calls = 0

    def judge(_: UNet) -> float:
        nonlocal calls
        calls += 1
        return float(calls)

    return judge
