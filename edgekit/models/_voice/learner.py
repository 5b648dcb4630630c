"""A network that learns, as the training loop takes it."""

from __future__ import annotations

from typing import Any

from torch import nn


class Learner(nn.Module):
    """One network, with what Muon needs to know of it: linear layers but embeddings and those that give out."""

    def __init__(self, net: nn.Module, given_out: tuple[str, ...] = ()) -> None:
        """given_out: names of linear layers that are no hidden matrices."""
        super().__init__()
        self.net, self._given_out = net, given_out

    def hidden_matrices(self) -> list[str]:
        """Names of the weights that Muon updates."""
        return [
            f"net.{n}.weight" for n, m in self.net.named_modules()
            if isinstance(m, nn.Linear) and m.weight.requires_grad and not n.startswith(self._given_out)
        ]  # fmt: skip

    def forward(self, *arguments: Any) -> Any:
        """As the network's own."""
        return self.net(*arguments)


def own(module: Any) -> Any:
    """The learner itself, without what a training loop wrapped around it."""
    return getattr(module, "module", module)
