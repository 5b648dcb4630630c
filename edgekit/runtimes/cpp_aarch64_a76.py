"""The C++ runtime on an emulated Cortex-A76: are the answers the same on aarch64? Its times say nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgekit import __version__
from edgekit.bundle import Bundle
from edgekit.errors import Missing
from edgekit.measurement import Progress
from edgekit.parts import Runtime, Session
from edgekit.runtimes import _cpp_aarch64 as aarch64
from edgekit.runtimes._cpp_session import CppSession


class CortexA76(Runtime):
    """qemu's user mode with the aarch64 build of ONNX Runtime."""

    needs = ("onnxruntime",)
    formats = ("onnx",)
    also_opens = ("spike",)
    most_scored = 500  # each takes tens of milliseconds
    simulates = "Cortex-A76"
    optional = True

    def version(self) -> str:
        """As in 'edgekit-run 0.1.0 with onnxruntime 1.32.0 on cortex-a76 (qemu)'."""
        from importlib.metadata import version

        return f"edgekit-run {__version__} with onnxruntime {version('onnxruntime')} on cortex-a76 (qemu)"

    def ready(self) -> str:
        """See Runtime.ready."""
        return aarch64.reason_not_ready("cpp_aarch64_a76")

    def setup(self, progress: Progress) -> str:
        """Needs cmake, a cross compiler (or zig from PyPI), and qemu (or Debian's packages of it)."""
        return aarch64.setup(progress)

    @contextmanager
    def open(self, bundle: Bundle, threads: int = 0, probes: bool = False) -> Iterator[Session]:
        """Each call is an emulated process of its own."""
        if reason := self.ready():
            raise Missing(reason)
        command, options = aarch64.command("cortex-a76")
        yield CppSession(bundle, command, [*options, "--threads", str(threads), *(["--probes"] if probes else [])])


PART = CortexA76()
