"""edgekit's own engine for one-timestep spiking networks: exact, and faster the fewer spikes there are. In runtime/src/spike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgekit import __version__
from edgekit.bundle import Bundle
from edgekit.errors import Missing
from edgekit.measurement import Progress
from edgekit.parts import Runtime, Session
from edgekit.runtimes._cpp_build import Variant, build, runner
from edgekit.runtimes._cpp_session import CppSession

NATIVE = Variant("native")


class Spike(Runtime):
    """By the C++ runner, in a process of its own; it needs no other engine."""

    formats = ("spike",)
    exact = True

    def version(self) -> str:
        """As in 'spike 0.1.0'."""
        return f"spike {__version__}"

    def ready(self) -> str:
        """See Runtime.ready."""
        try:
            return "" if runner(NATIVE) else "the C++ runner is not built from these sources: run `edgekit setup spike`"
        except Missing as missing:
            return str(missing)

    def setup(self, progress: Progress) -> str:
        """Needs cmake and a C++17 compiler."""
        return f"the C++ runner is built: {build(NATIVE, progress)}"

    @contextmanager
    def open(self, bundle: Bundle, threads: int = 0, probes: bool = False) -> Iterator[Session]:
        """Each call is a process of its own."""
        built = runner(NATIVE)
        if built is None:
            raise Missing(self.ready())
        yield CppSession(bundle, [str(built)], ["--threads", str(threads), *(["--probes"] if probes else [])])


PART = Spike()
