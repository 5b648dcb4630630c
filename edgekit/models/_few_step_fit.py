"""How a teacher and its three students are trained and held side by side: every stage of every seed is a checkpoint, made once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from edgekit import files
from edgekit.checkpoint import Checkpoint, save_checkpoint
from edgekit.measurement import Progress
from edgekit.models._diffusion import quality
from edgekit.models._diffusion.data import Pictures, Split
from edgekit.models._diffusion.deploy import SEED
from edgekit.models._diffusion.distil import (
    ConsistencyTask,
    Matched,
    MatchingTask,
    ShortcutTask,
    WithTarget,
    with_jumps,
)
from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.plans import Sampling
from edgekit.models._diffusion.stages import Stages, loaded
from edgekit.models._diffusion.training import Learner
from edgekit.models._diffusion.yardstick import drawn, yardstick_of
from edgekit.models._few_step_options import Options
from edgekit.models._few_step_tables import Outcome, tables
from edgekit.picture_grid import grid, write_png
from edgekit.train import Task

STUDENTS = ("consistency", "matching", "shortcut")
FORMS = {4: "four", 2: "two", 1: "one"}  # calls -> the checkpoint folder of the student that is best at them
JUDGED = {"consistency": Sampling(4), "matching": Sampling(2, "renoise"), "shortcut": Sampling(1, "shortcut")}  # what an epoch is kept for
TEACHER_CALLS = 50  # of the teacher as deployed, and as the students' pictures are held against it
GUIDANCE = 1.5  # of the table's guided teacher where students learn from an unguided one; the study's best
SEEN = 40  # pictures of a grid
MEASURED = 1000  # pictures at least: sets as large as the test part, each with noise of its own, whose distances are averaged
MADE_SO = {"measured": MEASURED, "figures": [f.name for f in dataclasses.fields(Outcome)]}  # what decides a stored outcome
VALIDATION_SEED, TEST_SEED = 1000, 2000  # of the noise: nobody chooses by the test's
SETS_APART = 10_000  # between the noise seeds of two sets: more than there are seeds of networks


class Fit:
    """One run of the recipe."""

    def __init__(self, options: Options, out: Path, progress: Progress, split: Split, fabric: Any) -> None:
        self.options, self.out, self.progress, self.split, self.fabric = options, out, progress, split, fabric
        self.yardstick = yardstick_of(fabric, split, progress)
        self.stages = Stages("few_step", options, out, progress, split, fabric)

    def run(self) -> Path:
        """Train what is not trained yet, test what is not tested yet; the checkpoint folder to deploy."""
        stages = {seed: self._made(seed) for seed in self.options.seeds}
        outcomes = [o for seed, made in stages.items() for o in self._tested(seed, made)]
        forms = {form: self._chosen(outcomes, calls) for calls, form in FORMS.items()}
        forms["teacher"] = self._best([o for o in outcomes if (o.stage, o.sampling) == ("teacher", Sampling(TEACHER_CALLS))])
        deploy = FORMS[self.options.calls]
        if self.fabric.is_global_zero:
            for form, o in forms.items():
                self._hand_over(form, stages[o.seed][o.stage], o.sampling)
            rows = [self._row(o, stages, form == deploy) for form, o in forms.items()]
            test = self.split.test
            result = {
                "score_name": "floor / feature-FID", "test_samples": len(self.split.test), "deploy": deploy,
                "rows": sorted(rows, key=lambda r: bool(r["role"] != "model")),
                "tables": tables(
                    outcomes, self.yardstick.floor(test), quality.sharpness(test.images), {f: (o.stage, o.sampling) for f, o in forms.items()},
                    self._seconds(stages), self.split.name,
                ),
                "pictures": self._pictures(stages[forms["teacher"].seed]["teacher"], {f: stages[o.seed][o.stage] for f, o in forms.items()}, forms),
            }  # fmt: skip
            files.write_text(self.out / "result.json", files.canonical_json(result))
        self.fabric.barrier()
        return self.out / deploy

    # ---- training

    def _made(self, seed: int) -> dict[str, Checkpoint]:
        """The four networks of one seed."""
        guidance, students, make = self.options.guidance, self.options.students, self.stages.made
        made = {"teacher": self.stages.teacher(seed, self.options.teacher, self.options.network.width)}
        teacher = loaded(made["teacher"])
        told = {"guidance": guidance}

        def judged(stage: str) -> Callable[[UNet], float]:
            part = self.split.validation
            return lambda net: -self.yardstick.distance(drawn(net, JUDGED[stage], part.conditions, VALIDATION_SEED))

        def four() -> tuple[Learner, Task]:
            return WithTarget(loaded(made["teacher"])), ConsistencyTask(self.split, teacher, guidance, judged("consistency"))

        def two() -> tuple[Learner, Task]:
            student = loaded(made["consistency"])
            return Matched(student, loaded(made["teacher"])), MatchingTask(self.split, teacher, guidance, judged("matching"), 2)

        def one() -> tuple[Learner, Task]:
            return WithTarget(with_jumps(loaded(made["teacher"]))), ShortcutTask(self.split, teacher, guidance, judged("shortcut"))

        made["consistency"] = make("consistency", seed, students.consistency, [made["teacher"]], told, four)
        made["matching"] = make("matching", seed, students.matching, [made["teacher"], made["consistency"]], told, two)
        made["shortcut"] = make("shortcut", seed, students.shortcut, [made["teacher"]], told, one)
        return made

    # ---- what came of it

    def _tested(self, seed: int, stages: Mapping[str, Checkpoint]) -> list[Outcome]:
        """Every network with every sampler that it is held against, on validation and test conditions."""
        found = []
        for stage, checkpoint in stages.items():
            for i, sampling in enumerate(wanted := samplings_of(stage, shown_guidance(self.options))):
                self.progress(f"{stage}, seed {seed}: pictures", i, len(wanted))

                def compute(stage: str = stage, checkpoint: Checkpoint = checkpoint, sampling: Sampling = sampling) -> Any:
                    return self._outcome(stage, seed, loaded(checkpoint), sampling).to_json()

                what = f"{sampling.kind}{sampling.steps}" + (f"-guided{sampling.guidance:g}" if sampling.guidance != 1 else "")
                found.append(Outcome.from_json(self.stages.stored(checkpoint, what, compute, MADE_SO)))
        return found

    def _outcome(self, stage: str, seed: int, net: UNet, sampling: Sampling) -> Outcome:
        y, part, chosen = self.yardstick, self.split.test, self.split.validation
        # Teachers are chosen by their deployed sampler alone, and their pictures take most of the time.
        by = stage != "teacher" or sampling == Sampling(TEACHER_CALLS)
        validation = self._sets(net, sampling, chosen, VALIDATION_SEED) if by else []
        sets = self._sets(net, sampling, part, TEST_SEED + seed)
        return Outcome(
            stage, seed, sampling,
            validation_fid=fmean(map(y.distance, validation)) if validation else None,
            fid=fmean(map(y.distance, sets)),
            shown=fmean(quality.shown(y.net, images, part.conditions) for images in sets),
            sharpness=fmean(map(quality.sharpness, sets)),
            nearest=fmean(float(np.median(quality.nearest(images, self.split.train.images))) for images in sets),
        )  # fmt: skip

    def _sets(self, net: UNet, sampling: Sampling, part: Pictures, seed: int) -> list[np.ndarray]:
        """Sets of pictures for the conditions of a part: the distance of one small set depends on its noise."""
        return [drawn(net, sampling, part.conditions, seed + k * SETS_APART) for k in range(-(-MEASURED // len(part.images)))]

    def _chosen(self, outcomes: list[Outcome], calls: int) -> Outcome:
        """Of the students with so many calls: the network and sampler that is nearest in the mean over seeds, and of it the nearest seed;
        both on validation conditions."""
        ways: dict[tuple[str, Sampling], list[Outcome]] = {}
        for o in outcomes:
            if o.stage != "teacher" and o.sampling.calls == calls:
                ways.setdefault((o.stage, o.sampling), []).append(o)
        return self._best(min(ways.values(), key=lambda found: fmean(o.to_choose_by for o in found)))

    def _best(self, outcomes: list[Outcome]) -> Outcome:
        """The nearest on validation conditions."""
        return min(outcomes, key=lambda o: o.to_choose_by)

    def _hand_over(self, form: str, checkpoint: Checkpoint, sampling: Sampling) -> None:
        """The weights as a form that is deployed: with its sampler, and the score of its pictures with the deployed program's noise."""
        net, test = loaded(checkpoint), self.split.test
        score = self.yardstick.floor(test) / self.yardstick.distance(drawn(net, sampling, test.conditions, SEED))
        save_checkpoint(self.out / form, net, {**checkpoint.facts, "form": form, "sampling": dataclasses.asdict(sampling), "score": score})

    def _row(self, outcome: Outcome, stages: Mapping[int, Mapping[str, Checkpoint]], deployed: bool) -> dict[str, Any]:
        checkpoint = stages[outcome.seed][outcome.stage]
        floors = {part: self.yardstick.floor(getattr(self.split, part)) for part in ("validation", "test")}
        return {
            "label": f"{outcome.label}, seed {outcome.seed}", "role": "model" if deployed else "baseline", "steps": None,
            "score": floors["test"] / outcome.fid, "validation": floors["validation"] / outcome.to_choose_by,
            "epochs": checkpoint.facts["epochs"], "seconds": self.stages.seconds(checkpoint), "spikes_per_neuron": {}, "estimates": [],
        }  # fmt: skip

    def _seconds(self, stages: Mapping[int, Mapping[str, Checkpoint]]) -> dict[str, list[float]]:
        """Seconds of training of each stage, a number a seed."""
        names = next(iter(stages.values()))
        return {stage: [self.stages.seconds(made[stage]) for made in stages.values()] for stage in names}

    def _pictures(self, teacher: Checkpoint, made: Mapping[str, Checkpoint], forms: Mapping[str, Outcome]) -> list[dict[str, str]]:
        """Grids of the same conditions: real, by the teacher, and by each student."""
        rows = np.linspace(0, len(self.split.test) - 1, SEEN).astype(np.int64)
        part = self.split.test.take(rows)
        net, guidance = loaded(teacher), shown_guidance(self.options)
        shown = {
            "real": ("Real held-out pictures", part.images),
            "teacher50": (f"Teacher, {TEACHER_CALLS} calls", drawn(net, Sampling(TEACHER_CALLS), part.conditions, TEST_SEED)),
            "guided10": (f"Teacher, 10 steps, guidance {guidance:g}", drawn(net, Sampling(10, guidance=guidance), part.conditions, TEST_SEED)),
            "teacher4": ("Teacher, 4 calls", drawn(net, Sampling(4), part.conditions, TEST_SEED)),
        }
        for calls, form in FORMS.items():
            o = forms[form]
            words = f"{o.label[0].upper()}{o.label[1:]}, {calls} call{'s' if calls > 1 else ''}"
            shown[f"student{calls}"] = (words, drawn(loaded(made[form]), o.sampling, part.conditions, TEST_SEED))
        for name, (_, images) in shown.items():
            write_png(self.out / f"{name}.png", grid(images, 10))
        said = {"real": "what the pictures below were asked to show"}
        same = "the same conditions and noise in every grid"
        return [{"title": title, "file": f"{name}.png", "caption": said.get(name, same)} for name, (title, _) in shown.items()]


def samplings_of(stage: str, guidance: float) -> list[Sampling]:
    """The samplers with which a stage is held against the others, at equal network calls."""
    if stage == "teacher":
        plain_ones = [Sampling(n) for n in (TEACHER_CALLS, 10, 4, 2, 1)]
        return [*plain_ones, *(Sampling(n, guidance=guidance) for n in (TEACHER_CALLS // 2, 10, 4)), Sampling(4, "renoise")]
    if stage == "shortcut":
        return [Sampling(n, "shortcut") for n in (4, 2, 1)]
    return [Sampling(n, kind) for n in (4, 2) for kind in ("ddim", "renoise")] + [Sampling(1)]


def shown_guidance(options: Options) -> float:
    """The guidance at which the teacher is shown beside its unguided self: that of the students' teacher, if there is any."""
    return options.guidance if options.guidance != 1 else GUIDANCE
