"""The stages of this family: a network a kind and seed, and how it is built again from what its checkpoint says."""

from __future__ import annotations

from typing import Any

from edgekit.checkpoint import Checkpoint
from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.training import Learner
from edgekit.models._fvdm import plans, training
from edgekit.models._fvdm.clips import ClipSplit
from edgekit.models._fvdm.options import Kind, Options
from edgekit.models._fvdm.training import FilmTask, new_net
from edgekit.models._stages import Stages

LEVELS_FROM = [  # what decides a network beside its recipe
    training.KNOWN_SHARE, training.EACH_SHARE, training.KNOWN, training.KNOWN_SHARES, training.ANY_KNOWN, training.PAPER_SHARE,
    training.DOUBTED_SHARE, plans.DOUBT_MOST, training.UNTOLD, training.UNTOLD_KNOWN,
]  # fmt: skip


def made(stages: Stages, options: Options, split: ClipSplit, kind: Kind, seed: int) -> Checkpoint:
    """The network of a kind and seed: from its folder `KIND-SEED`, or trained now."""
    width, an_epoch = options.network.width, options.data.clips
    decided_by: dict[str, Any] = {"width": width, "clips": an_epoch, "levels": LEVELS_FROM}
    return stages.made(
        kind, seed, options.training, [], decided_by, lambda: (Learner(new_net(split.train, width)), FilmTask(split, kind, an_epoch)), _facts
    )


def _facts(net: UNet) -> dict[str, Any]:
    return {"channels": net.channels, "size": net.size, "heads": list(net.heads), "width": net.width, "frames": net.slots}


def loaded(checkpoint: Checkpoint) -> UNet:
    """The network of a stage or form, in eval mode."""
    f = checkpoint.facts
    net = UNet(f["channels"], f["size"], tuple(f["heads"]), slots=f["frames"], width=f["width"])
    net.load_state_dict(checkpoint.state())
    return net.eval()
