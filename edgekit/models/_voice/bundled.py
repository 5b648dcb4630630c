"""The four networks of a converter as one module, so that one checkpoint holds what is deployed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import nn

from edgekit.checkpoint import Checkpoint
from edgekit.models._voice.codec import Codec, codec_of
from edgekit.models._voice.converter import Converter
from edgekit.models._voice.features import Running
from edgekit.models._voice.semantic import SemanticEncoder
from edgekit.models._voice.structure import Structure
from edgekit.models._voice.whole import Whole


class Bundled(nn.Module):
    """Running means, encoder, codec and converter."""

    def __init__(self, running: Running, encoder: SemanticEncoder, codec: Codec, converter: Converter) -> None:
        super().__init__()
        self.running, self.encoder, self.codec, self.converter = running, encoder, codec, converter

    def whole(self, temperature: float) -> Whole:
        """The same over whole recordings."""
        return Whole(self.running, self.encoder, self.codec, self.converter, temperature)


def bundled_of(checkpoint: Checkpoint) -> Bundled:
    """What `facts_of` and the weights say, in eval mode."""
    f, state = checkpoint.facts, checkpoint.state()
    codec = codec_of(**f["codec"])
    net = Bundled(Running(), SemanticEncoder(f["phones"]), codec, Converter(Structure(**f["network"]), codec.quantiser.books))
    net.load_state_dict(state)
    return net.eval().requires_grad_(False)


def facts_of(net: Bundled, codec: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be known to build them again; codec: the recipe's."""
    return {"phones": int(net.encoder.phone.out_features), "codec": dict(codec), "network": dataclasses.asdict(net.converter.structure)}
