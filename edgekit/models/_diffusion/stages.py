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
from edgekit.models._diffusion.data import Split
from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.training import Learner, TeacherTask
from edgekit.plan import Plan
from edgekit.train import Task, fit

Start = Callable[[], tuple[Learner, Task]]  # the network as it begins, and what it learns


class Stages:
    """The stages of one run, which lie in `out`."""

    def __init__(self, family: str, recipe: Any, out: Path, progress: Progress, split: Split, fabric: Any) -> None:
        """recipe: the options of the family, a dataclass; stored with every stage."""
        self.family, self.recipe, self.out, self.progress, self.split, self.fabric = family, plain(recipe), out, progress, split, fabric

    def teacher(self, seed: int, plan: Plan, width: int) -> Checkpoint:
        """A network of `width` that learns the training pictures from nothing."""
        shape, sizes = self.split.train.images.shape, self.split.train.sizes
        return self.made(
            "teacher", seed, plan, [], {"width": width},
            lambda: (Learner(UNet(shape[1], shape[2], sizes, width=width)), TeacherTask(self.split, sizes)),
        )  # fmt: skip

    def made(
        self, stage: str, seed: int, plan: Plan, parents: Sequence[Checkpoint], decided_by: Mapping[str, Any], start: Start
    ) -> Checkpoint:  # fmt: skip
        """A stage from its folder `STAGE-SEED`, or trained now. What decides it: plan, seed, pictures, parents and `decided_by`."""
        name = f"{stage}-{seed}"
        folder = self.out / name
        every = {
            "stage": stage, "seed": seed, "plan": dataclasses.asdict(plan), "pictures": self.split.sha256,
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
            "key": key, "channels": net.channels, "size": net.size, "heads": list(net.heads), "width": net.width, "jumps": net.jumps,
            "epochs": fitted.epochs_run, "kept_epoch": fitted.epoch, "parameters": sum(p.numel() for p in net.parameters()),
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


def loaded(checkpoint: Checkpoint) -> UNet:
    """The network of a stage, in eval mode."""
    f = checkpoint.facts
    net = UNet(f["channels"], f["size"], tuple(f["heads"]), width=f["width"], jumps=f["jumps"])
    net.load_state_dict(checkpoint.state())
    return net.eval()


def plain(options: Any) -> dict[str, Any]:
    """A dataclass of options as plain JSON values."""
    values: dict[str, Any] = json.loads(files.canonical_json(dataclasses.asdict(options)))
    return values
