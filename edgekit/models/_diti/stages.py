"""The stages of a run: the base, and encoders with their decoders, built again from what their checkpoints say of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgekit.checkpoint import Checkpoint
from edgekit.measurement import Progress
from edgekit.models._diffusion.data import Split
from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.training import Learner, TeacherTask
from edgekit.models._diti.net import Coder
from edgekit.models._diti.options import Network, Options
from edgekit.models._diti.training import CodeLearner, CodeTask, ReconstructionTask, unlabelled
from edgekit.models._stages import Stages as Plain
from edgekit.train import Task

STAGES = ("base", "pdae", "diti", "autoencoder")
BARE = (1,)  # values of the base's conditions: one that says nothing


class Deployed(nn.Module):
    """The base and the coder together, as they are stored to be deployed."""

    def __init__(self, base: UNet, coder: Coder) -> None:
        super().__init__()
        self.base, self.coder = base, coder


class Made:
    """The stages of one run."""

    def __init__(self, options: Options, out: Path, progress: Progress, split: Split, fabric: Any) -> None:
        self.options, self.split = options, unlabelled(split)
        self.plain = Plain("diti", options, out, progress, {"pictures": self.split.sha256}, fabric)

    def of_seed(self, seed: int) -> dict[str, Checkpoint]:
        """Every stage of a seed; what is trained already is kept."""
        o, network = self.options, self.options.network
        base = self.plain.made("base", seed, o.base, [], {"width": network.width}, self._base, _base_facts)
        shape = {"groups": list(network.groups), "encoder": network.encoder, "shift": network.shift, "noise": network.noise}
        made = {"base": base}

        def coder(stage: str, parents: list[Checkpoint], decided_by: dict[str, Any], start: Callable[[], tuple[CodeLearner, Task]]) -> Checkpoint:
            return self.plain.made(stage, seed, getattr(o, stage), parents, {**shape, **decided_by}, start, _coder_facts)

        made["pdae"] = coder("pdae", [base], {}, lambda: (CodeLearner(self.new(), network.noise), self._task(base, masked=False)))
        told, parents = {"rule": network.rule, "begin": network.begin}, [base, made["pdae"]] if network.begin == "pdae" else [base]

        def diti() -> tuple[CodeLearner, Task]:
            begun = coder_of(made["pdae"]) if network.begin == "pdae" else self.new()
            return CodeLearner(begun, network.noise), self._task(base, masked=True)

        made["diti"] = coder("diti", parents, told, diti)
        made["autoencoder"] = coder("autoencoder", [], {}, lambda: (CodeLearner(self.new(), network.noise), ReconstructionTask(self.split)))
        return made

    def new(self) -> Coder:
        """Encoder and decoder that have learned nothing; torch's seed decides their weights."""
        return new_coder(self.options.network, self.split)

    def _base(self) -> tuple[Learner, Task]:
        shape = self.split.train.images.shape
        return Learner(UNet(shape[1], shape[2], BARE, width=self.options.network.width)), TeacherTask(self.split, BARE)

    def _task(self, base: Checkpoint, masked: bool) -> CodeTask:
        return CodeTask(self.split, base_of(base), self.options.network.groups, self.options.network.rule if masked else "base", masked)


def new_coder(network: Network, split: Split) -> Coder:
    """Encoder and decoder for these pictures."""
    shape = split.train.images.shape
    return Coder(shape[1], shape[2], network.groups, network.encoder, network.shift)


def random_coder(network: Network, split: Split, seed: int) -> Coder:
    """The coder of a seed before it learns, in eval mode."""
    torch.manual_seed(seed)
    coder: Coder = new_coder(network, split).eval()
    return coder


def base_of(checkpoint: Checkpoint) -> UNet:
    """The base of a stage `base`, in eval mode."""
    net = _new_base(checkpoint)
    net.load_state_dict(checkpoint.state())
    return net.eval()


def coder_of(checkpoint: Checkpoint) -> Coder:
    """The coder of another stage, in eval mode."""
    net = _new_coder(checkpoint)
    net.load_state_dict(checkpoint.state())
    return net.eval()


def deployed_of(checkpoint: Checkpoint) -> Deployed:
    """Both of a checkpoint to deploy, in eval mode."""
    net = Deployed(_new_base(checkpoint), _new_coder(checkpoint))
    net.load_state_dict(checkpoint.state())
    return net.eval()


def _new_base(checkpoint: Checkpoint) -> UNet:
    f = checkpoint.facts
    return UNet(f["channels"], f["size"], BARE, width=f["width"])


def _new_coder(checkpoint: Checkpoint) -> Coder:
    f = checkpoint.facts
    return Coder(f["channels"], f["size"], tuple(f["groups"]), f["encoder"], f["shift"])


def _base_facts(net: UNet) -> dict[str, Any]:
    return {"channels": net.channels, "size": net.size, "width": net.width}


def _coder_facts(net: Coder) -> dict[str, Any]:
    e = net.encoder
    return {"channels": e.channels, "size": e.size, "groups": list(net.groups), "encoder": net.encoder_width, "shift": net.shift_width}
