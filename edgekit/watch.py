"""Calls a function again and again in a thread of its own while a block runs, and keeps what it said and when."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")

JITTER = 0.2  # of the interval, uniform: readings in step with a periodic load see one phase of it only (aliasing)
HUNG_S = 10.0  # a read that has not come back this long after the end of the block never will


class Watch(Generic[T]):
    """Reads before the block, about every `interval_s` during it, and after it.

        with Watch(readout.read, 0.05) as watch:
            work()
        if watch.failed: ...  # the readings say nothing of the whole block

    readings: (time.monotonic_ns() in the middle of the read, what it returned), in order; one at least, unless the
    first read failed. failed: empty, or one sentence that says why the readings do not cover the block; a read that
    raises ends the watching, and `error` is what it raised. slowest_read_s: the longest that one read took, so that a
    time in `readings` is right within half of it. Nothing is raised into the block.
    """

    def __init__(self, read: Callable[[], T], interval_s: float) -> None:
        if not interval_s > 0:
            raise ValueError(f"an interval is more than 0 s, found {interval_s}")
        self.interval_s = interval_s
        self.readings: list[tuple[int, T]] = []
        self.error: Exception | None = None
        self.failed = ""
        self.slowest_read_s = 0.0
        self._read = read
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgekit-watch", daemon=True)

    def __enter__(self) -> Watch[T]:
        if self._once():  # here and not in the thread: the block begins after the first reading
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._thread.ident is None:
            return
        if not self._thread.is_alive() and not self.failed:
            self.failed = f"the watching thread ended by itself after {len(self.readings)} readings"
        self._stop.set()
        self._thread.join(HUNG_S)
        if self._thread.is_alive():
            self.failed = self.failed or f"a read did not come back within {HUNG_S:g} s"
        elif not self.failed:
            self._once()  # the block ends before the last reading

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            due += self.interval_s * random.uniform(1 - JITTER, 1 + JITTER)
            now = time.monotonic()
            due = max(due, now)  # where the machine was busy: no burst of readings to catch up
            if self._stop.wait(due - now) or not self._once():
                return

    def _once(self) -> bool:
        start = time.monotonic_ns()
        try:
            value = self._read()
        except Exception as error:  # whatever it is: kept, and the run is not certified
            self.error = error
            what = str(error) or type(error).__name__
            self.failed = f"reading failed after {len(self.readings)} readings: {what}"
            return False
        end = time.monotonic_ns()
        self.readings.append(((start + end) // 2, value))
        self.slowest_read_s = max(self.slowest_read_s, (end - start) / 1e9)
        return True
