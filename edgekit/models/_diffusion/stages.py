"""The stages of a diffusion training: a network that draws, built again from what its checkpoint says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.checkpoint import Checkpoint
from edgekit.measurement import Progress
from edgekit.models._diffusion.data import Split
from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.training import Learner, TeacherTask
from edgekit.models._stages import Stages as Plain
from edgekit.models._stages import plain
from edgekit.plan import Plan
from edgekit.train import Task

Start = Callable[[], tuple[Learner, Task]]  # the network as it begins, and what it learns


class Stages:
    """The stages of one run on one set of pictures."""

    def __init__(self, family: str, recipe: Any, out: Path, progress: Progress, split: Split, fabric: Any) -> None:
        """recipe: the options of the family, a dataclass; stored with every stage."""
        self.split = split
        self._stages = Plain(family, recipe, out, progress, {"pictures": split.sha256}, fabric)
        self.seconds, self.stored, self.recipe = self._stages.seconds, self._stages.stored, self._stages.recipe

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
        return self._stages.made(stage, seed, plan, parents, decided_by, start, _facts)


def _facts(net: UNet) -> dict[str, Any]:
    return {"channels": net.channels, "size": net.size, "heads": list(net.heads), "width": net.width, "jumps": net.jumps}


def loaded(checkpoint: Checkpoint) -> UNet:
    """The network of a stage, in eval mode."""
    f = checkpoint.facts
    net = UNet(f["channels"], f["size"], tuple(f["heads"]), width=f["width"], jumps=f["jumps"])
    net.load_state_dict(checkpoint.state())
    return net.eval()


__all__ = ["Stages", "Start", "loaded", "plain"]
