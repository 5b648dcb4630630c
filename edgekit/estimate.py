"""What exactly counted operations would cost at published prices: an estimate from a specification, never a measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgekit.operations import Access, LayerCounts, OperationCounts, count, count_ann
from edgekit.prices import PROFILES, Prices, Range, Sram, prices_of

__all__ = [
    "PROFILES",
    "Access",
    "Estimate",
    "LayerCounts",
    "OperationCounts",
    "Prices",
    "count",
    "count_ann",
    "price",
    "prices_of",
]


@dataclass(frozen=True)
class Estimate:
    """The price of one inference in nanojoule. The three energies are all there, or all None with a reason."""

    profile: str
    label: str
    grade: str  # of the evidence behind the prices: "simulated", "derived" or "measured"
    source: str
    energy_nj_low: float | None
    energy_nj: float | None
    energy_nj_high: float | None
    includes_memory: bool
    operations: Mapping[str, int]  # totals over all samples; "samples" is among them
    unpriced: tuple[str, ...]  # terms that the energies leave out
    spread: str = ""  # what low and high stand for
    reason: str = ""  # why the energies are None
    accesses: Mapping[str, int] = field(default_factory=dict)  # words read or written, per buffer, over all samples
    kind: Literal["spec-estimate"] = "spec-estimate"


_LOW, _MID, _HIGH = range(3)


def price(counts: OperationCounts, prices: Prices, memory: bool) -> Estimate:
    """Price `counts` per inference. With `memory`, each read and write that `counts` lists is paid as well.

    Accesses, in words. A multiplication reads one input and one weight, its sum stays in a register. A spike that
    arrives is read once as an address; each of its accumulations reads a weight, reads a potential and writes it. A
    neuron update reads a bias, reads a potential and writes it; a spike that is sent is written once as an address.
    A non-spiking neuron reads a bias and writes one value.
    """
    includes = memory or prices.memory_inside
    reason = _why_not(counts, prices, memory)
    energies: list[float | None] = [None, None, None]
    if not reason:
        energies = [_total_pj(counts, prices, memory, case) / counts.samples / 1e3 for case in (_LOW, _MID, _HIGH)]
    accesses: dict[str, int] = {}
    for layer in counts.layers:
        for a in layer.accesses:
            accesses[a.buffer] = accesses.get(a.buffer, 0) + a.count
    return Estimate(
        profile=prices.name,
        label=prices.label,
        grade=prices.grade,
        source=prices.source,
        energy_nj_low=energies[_LOW],
        energy_nj=energies[_MID],
        energy_nj_high=energies[_HIGH],
        includes_memory=includes and not reason,
        operations=counts.totals(),
        unpriced=_unpriced(counts, prices, includes),
        spread=prices.spread,
        reason=reason,
        accesses=accesses,
    )


def _why_not(counts: OperationCounts, prices: Prices, memory: bool) -> str:
    """Empty when these operations can be priced, else one sentence."""
    if prices.reason:
        return prices.reason
    if counts.kind == "ann" and prices.mac is None:
        return f"{prices.label} has no price for multiplications: it does not run non-spiking networks"
    if not memory or prices.memory_inside:
        return ""
    if prices.memory is None:
        return f"{prices.label} has no price for memory accesses"
    largest = prices.memory.points[-1][0]
    for layer in counts.layers:
        for a in layer.accesses:
            size = a.words * _word_bytes(prices.memory, a.buffer)
            if a.count and size > largest:
                return f"the {a.buffer} of layer '{layer.name}' take {size} bytes, and memory prices are published up to {largest}"
    return ""


def _unpriced(counts: OperationCounts, prices: Prices, memory: bool) -> tuple[str, ...]:
    left_out = list(prices.unpriced)
    if counts.macs and prices.mac is None and counts.kind == "snn":
        left_out.insert(0, f"{counts.macs} multiplications of the first layer with analog inputs")
    if not memory:
        left_out.insert(0, "memory traffic")
    return tuple(left_out)


def _total_pj(counts: OperationCounts, prices: Prices, memory: bool, case: int) -> float:
    repeats = (1.0, float(counts.analog_repeats), float(counts.steps))[case] / counts.analog_repeats
    total = 0.0
    for layer in counts.layers:
        total += layer.macs * repeats * _pj(prices.mac, case)
        total += (layer.acs - layer.conv_acs) * _pj(prices.ac_dense, case) + layer.conv_acs * _pj(prices.ac_conv, case)
        total += layer.spikes * _pj(prices.spike, case) + layer.messages * _pj(prices.message, case)
        if counts.kind == "snn":
            updates = layer.neurons * counts.steps * counts.samples
            active = (min(layer.spikes, layer.driven), layer.driven, updates)[case]
            total += active * _pj(prices.neuron_active, case) + (updates - active) * _pj(prices.neuron_inactive, case)
        if memory and prices.memory is not None:
            total += sum(a.count * (repeats if a.analog else 1.0) * _access_pj(prices.memory, a, case) for a in layer.accesses)
    return total


def _pj(price: Range | None, case: int) -> float:
    """A price that the profile does not have adds nothing; _why_not and _unpriced have said so."""
    return 0.0 if price is None else (price.low, price.mid, price.high)[case]


def _access_pj(sram: Sram, access: Access, case: int) -> float:
    """The price of one word, by the capacity of its buffer."""
    word = _word_bytes(sram, access.buffer)
    size = access.words * word
    pj = sram.points[-1][1]
    for (below, low_pj), (above, high_pj) in zip(sram.points, sram.points[1:], strict=False):
        if size <= above:
            pj = low_pj + (high_pj - low_pj) * (size - below) / (above - below)
            break
    return pj * word / 8 if case == _LOW else pj


def _word_bytes(sram: Sram, buffer: str) -> int:
    if buffer == "weights":
        return sram.weight_bytes
    return sram.value_bytes if buffer in ("input", "output") else sram.state_bytes
