"""edgekit's own engine for one-timestep spiking networks: exact, and faster the fewer spikes there are (docs/spike-engine.md)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgekit import __version__
from edgekit.bundle import Bundle
from edgekit.errors import Missing
from edgekit.measurement import Progress
from edgekit.parts import Runtime, Session
from edgekit.runtimes import _c_session
from edgekit.runtimes._cpp_build import LIBRARY, Variant, build, runner

NATIVE = Variant("native", library=True)  # the one of edgekit/runtimes/cpp.py


class Spike(Runtime):
    """The library of the C++ runtime in this process; its engine needs no other (runtime/src/spike)."""

    formats = ("spike",)
    exact = True

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
        """One thread works; `threads` is taken and not used yet."""
        built = runner(NATIVE)
        if built is None:
            raise Missing(self.ready())
        with _c_session.opened(built.parent / LIBRARY, bundle, "spike", threads, probes) as session:
            yield session


PART = Spike()
