"""What a device says, taken for what it is: a stranger's word. Sense is asked of it; that it is true, nobody here can know.

A device could measure nothing and print pleasant figures. It is who its host key says it is, and those figures are its owner's word.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from edgekit import limits
from edgekit.errors import Broken
from edgekit.measurement import Measurement
from edgekit.plain_text import shown
from edgekit.text_file import parse_json

NO_SENSE = (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, RecursionError, AssertionError)
RUNTIME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}( .*)?")  # as in "onnxruntime 1.32.0": its first word names files
MOST_TEXT = 1_000  # characters of a name or a reason
# Figures of a measurement that cannot be below 0; those of energy can, net of idle.
COUNTS = (
    "threads", "load_ms", "first_run_ms", "warm_up_runs", "latency_p50_ms", "latency_p90_ms", "latency_min_ms", "samples", "preempted_samples",
    "latency_undisturbed_p50_ms", "memory_peak_mb", "latency_p50_low_ms", "latency_p50_high_ms", "latency_engine_p50_ms", "overhead_us",
)  # fmt: skip


@contextmanager
def sense(name: str, what: str) -> Iterator[None]:
    """Broken, in one sentence, for whatever an answer makes the code that reads it fail with."""
    try:
        yield
    except NO_SENSE as error:
        raise Broken(f"{what} of {name} makes no sense ({type(error).__name__}: {shown(error, 200)}); look at what runs there") from None


def json_of(text: str, where: str) -> Any:
    """A document of JSON that a device printed; Broken when it is too long for one, or nothing that parse_json takes."""
    if len(text) > limits.DEVICE_JSON_BYTES:
        raise Broken(f"{where}: {len(text):,} characters of JSON, and {limits.DEVICE_JSON_BYTES:,} are taken; look at what runs there")
    return parse_json(text, where, "look at what runs there")


def measurement(found: Measurement, name: str) -> Measurement:
    """The measurement with its texts made plain; Broken when a figure is none: not finite, negative, or in another order than it must be."""
    plain: Measurement = _plain(found, name)
    if not RUNTIME.fullmatch(plain.runtime):
        raise Broken(f"{name} measured with '{shown(plain.runtime, 60)}', which names no runtime; look at what runs there")
    below = [c for c in COUNTS if (getattr(plain, c) or 0) < 0]
    times = (*plain.process_p50_ms, *(p.value_ms or 0 for p in (*plain.percentiles, *plain.percentiles_undisturbed)))
    if below or any(t < 0 for t in times):
        raise Broken(f"{name} measured less than nothing ({', '.join(below) or 'a percentile'}); look at what runs there")
    if not plain.latency_p50_ms > 0 or plain.latency_min_ms > plain.latency_p50_ms or plain.samples < 1:
        raise Broken(
            f"{name} tells a p50 of {plain.latency_p50_ms:g} ms, a minimum of {plain.latency_min_ms:g} ms and {plain.samples} samples; "
            "look at what runs there"
        )
    if (plain.preempted_samples or 0) > plain.samples:
        raise Broken(f"{name} tells {plain.preempted_samples} preempted samples of {plain.samples}; look at what runs there")
    h = plain.histogram
    if h and (len(h.edges_ms) != len(h.counts) + 1 or len(h.counts) != len(h.undisturbed) or min((*h.counts, *h.undisturbed, h.above)) < 0):
        raise Broken(f"{name} tells a histogram of {len(h.edges_ms)} edges and {len(h.counts)} counts; look at what runs there")
    if plain.power and any(len(w) != len(plain.power.times_s) for w in plain.power.watts.values()):
        raise Broken(f"{name} tells power at other times than it read it; look at what runs there")
    return plain


def _plain(value: Any, name: str) -> Any:
    """The same with plain texts and, where numbers are, numbers."""
    if isinstance(value, str):
        return shown(value, MOST_TEXT)
    if isinstance(value, (int, float)) and not abs(value) < limits.DEVICE_NUMBER:
        raise Broken(f"{name} tells the number {shown(value, 40)}, which no figure of a measurement is; look at what runs there")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **{f.name: _plain(getattr(value, f.name), name) for f in dataclasses.fields(value)})
    if isinstance(value, tuple):
        return tuple(_plain(v, name) for v in value)
    if isinstance(value, Mapping):
        return {_plain(k, name): _plain(v, name) for k, v in value.items()}
    return value
