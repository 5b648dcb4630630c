"""What an inference would cost on a neuromorphic chip: paid by events, and only where prices of events were published."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit import spiking_net
from edgekit.bundle import Bundle
from edgekit.device_estimate import DeviceEstimate
from edgekit.estimate import Estimate, OperationCounts, count, price, prices_of
from edgekit.target import Target

METHOD = "events 1"
NO_LATENCY = "an event-driven chip's time depends on where events fall, and no time of an event is published that holds for a whole network"


def event_estimate(bundle: Bundle | None, target: Target, precision: str) -> DeviceEstimate:
    """By the target's price profiles: mid of the first, low and high over all. None where the first has no prices ("not available")."""
    counts = events_of(bundle) if bundle is not None else None
    energies, reason, inputs, notes = _energies(counts, target)
    return DeviceEstimate(
        target.name, precision, "spec-estimate", METHOD, None, None, None, NO_LATENCY, *energies, reason, inputs,
        None if counts is None else round((counts.acs + 2 * counts.macs) / counts.samples), None, notes,
    )  # fmt: skip


def events_of(bundle: Bundle) -> OperationCounts | None:
    """The events of a bundle that carries its spiking network, on its golden inputs; None for one that carries none."""
    own = sorted(bundle.folder.glob("*_net.safetensors"))
    if not own:
        return None
    net, golden = spiking_net.load(own[0]), bundle.golden()
    answers = {**golden.probes, **golden.exact}  # an integer network spikes for itself
    spiking = [p.name for p in net.populations if p.spiking]
    if any(n not in answers for n in spiking):
        return None
    return count(net, {n: answers[n] for n in spiking})


def _energies(
    counts: OperationCounts | None, target: Target
) -> tuple[tuple[float | None, float | None, float | None], str, Mapping[str, str], tuple[str, ...]]:
    none = (None, None, None)
    profiles = [prices_of(n) for n in target.prices]
    if not profiles:
        return none, f"not available: {target.why_unknown('energy_per_synop')}", {}, ()
    if profiles[0].reason:
        return none, f"not available: {profiles[0].reason}", {}, ()
    if counts is None:
        return none, "a neuromorphic chip is paid by events, which a NIR or Lava bundle holds; this one holds none", {}, ()
    priced = [e for p in profiles if (e := price(counts, p, True)).energy_nj is not None]
    if not priced:
        return none, price(counts, profiles[0], True).reason, {}, ()
    mid = priced[0]
    lows = [e.energy_nj_low for e in priced if e.energy_nj_low is not None]
    highs = [e.energy_nj_high for e in priced if e.energy_nj_high is not None]
    inputs = {f"prices {e.profile}": f"{_told(e)}; {e.source} ({e.grade})" for e in priced}
    left_out = f"not priced: {', '.join(mid.unpriced)}" if mid.unpriced else ""
    energies = (min(lows) / 1e6, (mid.energy_nj or 0.0) / 1e6, max(highs) / 1e6)
    return energies, "", inputs, tuple(n for n in (left_out, f"events of {counts.samples} golden samples, averaged") if n)


def _told(e: Estimate) -> str:
    return f"{e.energy_nj:.4g} nJ an inference" if e.energy_nj is not None else e.reason
