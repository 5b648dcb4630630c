"""A stage of a training is one network of one seed, in a checkpoint folder: made once, and made again only when what decides it changed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from edgekit import files
from edgekit.checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from edgekit.errors import EdgekitError
from edgekit.measurement import Progress
from edgekit.plan import Plan
from edgekit.train import Task, fit

Start = Callable[[], tuple[Any, Task]]  # a module with the network `net` as it begins, and what it learns


class Stages:
    """The stages of one run, which lie in `out`."""

    def __init__(self, family: str, recipe: Any, out: Path, progress: Progress, data: Mapping[str, Any], fabric: Any) -> None:
        """recipe: the options of the family, a dataclass; stored with every stage. data: what decides all stages, such as hashes of data."""
        self.family, self.recipe, self.out, self.progress, self.data, self.fabric = family, plain(recipe), out, progress, dict(data), fabric

    def made(  # noqa: PLR0913 - what decides a stage, and how it begins
        self, stage: str, seed: int, plan: Plan, parents: Sequence[Checkpoint], decided_by: Mapping[str, Any], start: Start,
        facts_of: Callable[[Any], Mapping[str, Any]],
    ) -> Checkpoint:  # fmt: skip
        """A stage from its folder `STAGE-SEED`, or trained now. What decides it: plan, seed, data, parents and `decided_by`.

        facts_of: what is to be known of the network to build it again."""
        name = f"{stage}-{seed}"
        folder = self.out / name
        every = {
            "stage": stage, "seed": seed, "plan": dataclasses.asdict(plan), **self.data,
            "parents": [p.facts["key"] for p in parents], **decided_by,
        }  # fmt: skip
        key = files.hash_of(every)
        try:
            done = open_checkpoint(folder)
        except EdgekitError:
            done = None
        if done is not None and done.facts.get("key") == key:
            return done
        torch.manual_seed(seed)
        learner, task = start()
        fitted = fit(
            self.fabric, learner, task, plan, seed=seed, state_folder=self.out / f"{name}.state", progress=self.progress,
            what=f"{stage}, seed {seed}", key=key,
        )  # fmt: skip
        net = learner.net
        facts = {
            "family": self.family, "name": self.out.parent.name, "recipe": self.recipe, "form": "trained", "stage": stage, "seed": seed,
            "key": key, **facts_of(net), "epochs": fitted.epochs_run, "kept_epoch": fitted.epoch,
            "parameters": sum(p.numel() for p in net.parameters()),
        }  # fmt: skip
        if self.fabric.is_global_zero:
            files.write_text(self.out / f"{name}.timing.json", files.canonical_json({"seconds": round(fitted.seconds, 2)}))
            save_checkpoint(folder, net, facts)
        self.fabric.barrier()
        return open_checkpoint(folder)

    def seconds(self, checkpoint: Checkpoint) -> float:
        """How long a stage was trained, without the stages before it."""
        return float(json.loads((self.out / f"{checkpoint.folder.name}.timing.json").read_text())["seconds"])

    def stored(self, checkpoint: Checkpoint, what: str, compute: Callable[[], Any], decided_by: Mapping[str, Any] | None = None) -> Any:
        """Plain values that follow from a stage and `decided_by`, from a file beside it, or computed now."""
        path = self.out / f"{checkpoint.folder.name}.{what}.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        key = files.hash_of([checkpoint.sha256, dict(decided_by or {})])
        if known.get("key") != key:
            known = {"key": key, "found": compute()}
            if self.fabric.is_global_zero:
                files.write_text(path, files.canonical_json(known))
        return known["found"]


def plain(options: Any) -> dict[str, Any]:
    """A dataclass of options as plain JSON values."""
    values: dict[str, Any] = json.loads(files.canonical_json(dataclasses.asdict(options)))
    return values
