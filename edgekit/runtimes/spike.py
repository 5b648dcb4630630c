"""edgekit's own engine for one-timestep spiking networks: exact, and faster the fewer spikes there are (docs/spike-engine.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from edgekit import __version__
from edgekit.bundle import Bundle
from edgekit.errors import Missing
from edgekit.layer_profile import Layer, LayerProfile
from edgekit.layers import with_shares
from edgekit.measurement import Progress
from edgekit.parts import Arrays, Runtime, Session
from edgekit.profile_child import golden_samples
from edgekit.runtimes import _c_session
from edgekit.runtimes._c_session import LayerTime
from edgekit.runtimes._cpp_build import LIBRARY, Variant, build, runner

WARM_UP = 20
NOTE = "times are of golden inputs in turn; operations are those that were done: additions of events, or products where a layer went as one"
NATIVE = Variant("native", library=True)  # the one of edgekit/runtimes/cpp.py


class Spike(Runtime):
    """The library of the C++ runtime in this process; its engine needs no other (runtime/src/spike)."""

    formats = ("spike",)
    exact = True
    data_dependent = True

    def version(self) -> str:
        """As in 'spike 0.1.0'."""
        return f"spike {__version__}"

    def ready(self) -> str:
        """See Runtime.ready."""
        try:
            return "" if runner(NATIVE) else "the C++ runtime is not built from these sources: run `edgekit setup spike`"
        except Missing as missing:
            return str(missing)

    def setup(self, progress: Progress) -> str:
        """Needs cmake and a C++17 compiler."""
        return f"the C++ runtime is built: {build(NATIVE, progress).parent}"

    @contextmanager
    def open(self, bundle: Bundle, threads: int = 0, probes: bool = False) -> Iterator[Session]:
        """threads: 0 is all cores; layers that take a thread some microseconds are not shared."""
        built = runner(NATIVE)
        if built is None:
            raise Missing(self.ready())
        with _c_session.opened(built.parent / LIBRARY, bundle, "spike", threads, probes) as session:
            yield session

    def layers(self, bundle: Bundle, inputs: Arrays, threads: int, runs: int) -> LayerProfile:
        """Over the golden inputs in turn: what a layer costs depends on its spikes. Operations are those that were done."""
        built = runner(NATIVE)
        if built is None:
            raise Missing(self.ready())
        found: list[list[LayerTime]] = []
        with _c_session.opened(built.parent / LIBRARY, bundle, "spike", threads, False, layers=True) as session:
            each = [session.bind(one) for one in golden_samples(bundle)]
            for i in range(WARM_UP + runs):
                each[i % len(each)]()
                if i >= WARM_UP:
                    found.append(session.layers())
        rows = with_shares(_row([run[i] for run in found]) for i in range(len(found[0])))
        return LayerProfile(self.version(), threads, runs, rows, None, None, (NOTE,))


PART = Spike()


def _row(runs: Sequence[LayerTime]) -> Layer:
    """One layer over all runs: medians, and the way that it went most."""
    time_us = float(np.median([r.time_us for r in runs]))
    way = Counter(r.way for r in runs).most_common(1)[0][0]
    first = runs[0]
    events = float(np.mean([r.events for r in runs]))
    rate = events / max(1, first.inputs)
    # Each event meets its weights once; what lies at the borders meets fewer.
    done = first.products * rate if way in ("events", "any") else 2.0 * first.products
    said = f"{way}, {rate:.1%} of {first.inputs} inputs" if way != "dense" or events else "dense, bytes"
    return Layer(first.name, said, way, "int8", time_us, 0.0, round(done), None)
