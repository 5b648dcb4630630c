"""Published energies per operation, in picojoule, each profile with its source and how good the evidence is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgekit.errors import no_such


@dataclass(frozen=True)
class Range:
    """A price in pJ: the lowest and highest that can honestly be meant, and the one to calculate with."""

    low: float
    mid: float
    high: float


def exactly(pj: float) -> Range:
    """A price that was published as one figure, without a spread."""
    return Range(pj, pj, pj)


@dataclass(frozen=True)
class Sram:
    """The price of one memory access by the capacity of the buffer: linear between (bytes, pJ) points, none beyond.

    mid and high pay one access a word. low pays one access per 64 bits, as if neighbouring words were always used
    together: the figures were published for accesses of 64 bits, the literature applies them to each word.
    """

    points: tuple[tuple[int, float], ...]
    weight_bytes: int
    value_bytes: int  # inputs and outputs of a non-spiking layer
    state_bytes: int = 4  # potentials, biases, and the addresses of spikes


@dataclass(frozen=True)
class Prices:
    """A named profile. None: this source has no price for it."""

    name: str
    label: str
    grade: Literal["simulated", "derived", "measured"]
    source: str
    technology: str
    mac: Range | None = None
    ac_dense: Range | None = None
    ac_conv: Range | None = None
    neuron_active: Range | None = None  # an update of a neuron that got input
    neuron_inactive: Range | None = None  # an update of a neuron that got none
    spike: Range | None = None  # sent by a neuron
    message: Range | None = None  # carried to one listening population
    memory: Sram | None = None
    memory_inside: bool = False  # the prices of operations already hold the accesses that they make
    unpriced: tuple[str, ...] = ()  # what this profile cannot say
    spread: str = ""  # what low and high stand for
    reason: str = ""  # why the profile has no prices at all


# M. Horowitz, "Computing's energy problem", ISSCC 2014, 45 nm, 0.9 V: a cache of 8 kB, 32 kB, 1 MB costs 10, 20, 100 pJ
# an access. The straight lines between, from (0, 0) on: Lemaire et al., arXiv 2210.13107 (2022).
_SRAM_45NM = ((0, 0.0), (8 * 1024, 10.0), (32 * 1024, 20.0), (1024 * 1024, 100.0))

_HOROWITZ = "Horowitz, ISSCC 2014 (arithmetic, SRAM); Lemaire et al., arXiv 2210.13107 (SRAM price by capacity)"
_HOROWITZ_LEFT_OUT = (
    "bias additions, threshold comparisons and poolings",
    "addressing and control",
    "clock and static power",
    "loading of weights, input and output of the chip",
)
_HOROWITZ_SPREAD = (
    "low: analog first layer once a sample, and 64 bits a memory access; high: first layer at every timestep, one access a word; "
    "the spread of the published figures themselves is not known"
)

# fp32: multiply 3.7 + add 0.9 = 4.6 pJ; an accumulation is the add alone.
HOROWITZ_FP32 = Prices(
    name="horowitz45-fp32",
    label="45 nm digital, 32-bit float (Horowitz 2014)",
    grade="derived",
    source=_HOROWITZ,
    technology="45 nm, 0.9 V",
    mac=exactly(4.6),
    ac_dense=exactly(0.9),
    ac_conv=exactly(0.9),
    memory=Sram(_SRAM_45NM, weight_bytes=4, value_bytes=4),
    unpriced=_HOROWITZ_LEFT_OUT,
    spread=_HOROWITZ_SPREAD,
)

# int8: multiply 0.2 pJ. The sum needs an accumulator: an 8-bit add (0.03 pJ) is the lowest, a 32-bit add (0.1 pJ) the usual.
HOROWITZ_INT8 = Prices(
    name="horowitz45-int8",
    label="45 nm digital, 8-bit integer (Horowitz 2014)",
    grade="derived",
    source=_HOROWITZ,
    technology="45 nm, 0.9 V",
    mac=Range(0.23, 0.3, 0.3),
    ac_dense=Range(0.03, 0.1, 0.1),
    ac_conv=Range(0.03, 0.1, 0.1),
    memory=Sram(_SRAM_45NM, weight_bytes=1, value_bytes=1),
    unpriced=_HOROWITZ_LEFT_OUT,
    spread=_HOROWITZ_SPREAD + "; low: 8-bit additions, else 32-bit",
)

_LOIHI_LEFT_OUT = (
    "barrier synchronisation",
    "static power",
    "spikes into and out of the chip",
    "loading of weights",
    "management processors",
)

# M. Davies et al., IEEE Micro 38(1), 2018, Table 2: pre-silicon simulation; the synaptic operation is given as a minimum.
# high: 35.5 pJ a synaptic operation, the largest figure published for this chip (SANA-FE's file, below).
LOIHI1_DAVIES = Prices(
    name="loihi1-davies2018",
    label="Loihi 1 (Davies et al. 2018, Table 2)",
    grade="simulated",
    source="Davies et al., IEEE Micro 38(1), 2018, Table 2",
    technology="14 nm, 0.75 V",
    ac_dense=Range(23.6, 23.6, 35.5),
    ac_conv=Range(23.6, 23.6, 35.5),
    neuron_active=exactly(81.0),
    neuron_inactive=exactly(52.0),
    message=exactly(1.7),
    memory_inside=True,
    unpriced=("hops between tiles", *_LOIHI_LEFT_OUT),
    spread=(
        "low: only neurons that spike are active; mid: those that got a spike; high: all, and 35.5 instead of 23.6 pJ a "
        "synaptic operation, which the source gives as a minimum"
    ),
)

# The Loihi architecture file of SANA-FE 2.2.9, which credits Davies 2018 but holds other figures: 35.5 (dense), 33.6
# (sparse), 24.0 (convolution) pJ a synaptic operation; soma access 51.2, update 21.6, spike out 69.3; message 111 pJ.
LOIHI1_SANAFE = Prices(
    name="loihi1-sanafe",
    label="Loihi 1 (architecture file of SANA-FE 2.2.9)",
    grade="simulated",
    source="SANA-FE 2.2.9, Loihi architecture file",
    technology="14 nm",
    ac_dense=Range(33.6, 35.5, 35.5),
    ac_conv=Range(24.0, 24.0, 35.5),
    neuron_active=exactly(51.2 + 21.6),
    neuron_inactive=exactly(51.2),
    spike=exactly(69.3),
    message=exactly(111.0),
    memory_inside=True,
    unpriced=("hops between tiles", "more than one message where a population lies on several cores", *_LOIHI_LEFT_OUT),
    spread=(
        "low: only neurons that spike are updated, sparse weights (33.6 pJ) where dense; mid: neurons that got a spike; "
        "high: all neurons, dense weights (35.5 pJ) everywhere"
    ),
)

LOIHI2 = Prices(
    name="loihi2",
    label="Loihi 2",
    grade="measured",
    source="none",
    technology="Intel 4",
    reason="no energy per operation was published for Loihi 2; figures of Loihi 1 are not scaled to it",
)

PROFILES: dict[str, Prices] = {p.name: p for p in (HOROWITZ_FP32, HOROWITZ_INT8, LOIHI1_DAVIES, LOIHI1_SANAFE, LOIHI2)}


def prices_of(name: str) -> Prices:
    """The profile of that name."""
    if name not in PROFILES:
        raise no_such("price profile", name, PROFILES)
    return PROFILES[name]
