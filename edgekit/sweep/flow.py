"""Run a sweep: what is ready goes to the two planes of dask, what comes back goes into the ledger, and the rest waits for it."""

from __future__ import annotations

import os
import queue
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgekit import files, lock
from edgekit.errors import EdgekitError
from edgekit.fleet import Device
from edgekit.measurement import Progress, silent
from edgekit.sweep import device as sweep_device
from edgekit.sweep import plan as sweep_plan
from edgekit.sweep import result as sweep_result
from edgekit.sweep import tasks as sweep_tasks
from edgekit.sweep.cluster import Planes, planes
from edgekit.sweep.host import Outcome
from edgekit.sweep.ledger import LEASE_S, Ledger
from edgekit.sweep.owner import Owner
from edgekit.sweep.plan import HERE, Plan
from edgekit.sweep.result import Swept
from edgekit.sweep.tasks import Call, Task

LEDGER = "ledger.sqlite"
GONE_S = 120.0  # without a compute worker: one that died is started anew within seconds
BACK_OFF_S = 2.0  # before the second attempt on a device; twice as long before each further one


def run(plan: Plan, out: Path, scheduler: str = "", workers: int = 0, progress: Progress = silent, again: bool = False) -> Swept:
    """Do what the ledger in `out` does not yet hold, and write sweep.json. sweep_result.write_report makes the page.

    scheduler: of a dask cluster that computes (it must see `out`); else `workers` processes here do (0: one for two cores).
    again: measure anew what was NOISY, THROTTLED or TOO-SHORT.
    """
    out = out.absolute()
    cells = sweep_plan.cells(plan)
    todo = sweep_tasks.tasks(plan, cells, out, again)
    devices: dict[str, Device | None] = {d.name: d for d in plan.devices}
    if any(c.device == HERE and not c.refused for c in cells):
        devices[HERE] = None
    with lock.run_folder(out), sweep_device.marked(), Ledger(out / LEDGER) as ledger:
        for cell in (c for c in cells if c.refused):
            ledger.refuse(files.hash_of({"refused": cell.name}), "measure", cell.name, cell.refused)
        seen = [Path(m.source) for m in plan.models if ":" not in m.source]
        count = workers or max(1, (os.cpu_count() or 2) // 2)
        with planes(list(devices), count, scheduler, seen, out) as started:
            outcomes = _Work(plan, todo, devices, ledger, started, progress).outcomes()
    swept = sweep_result.collect(plan, cells, outcomes, out)
    sweep_result.write(swept, out)
    return swept


class _Work:
    """A sweep that is going on: tasks to do, running and done."""

    def __init__(
        self, plan: Plan, todo: Mapping[str, Task], devices: Mapping[str, Device | None], ledger: Ledger, planes: Planes, progress: Progress
    ) -> None:
        self.plan, self.devices, self.ledger, self.planes, self.progress = plan, devices, ledger, planes, progress
        self.todo, self.all = dict(todo), todo
        self.calls: dict[str, Call] = {}
        self.running: dict[str, str] = {}  # task -> device, "" for a compute worker
        self.waiting: list[str] = []  # for a worker or a device
        self.attempts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()  # of a device, one after the other
        self.last: dict[str, str] = {}  # task -> device that it failed on
        self.gone: dict[str, str] = {}  # device -> why it is not asked any more
        self.found: dict[str, Outcome] = {}
        self.ended: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.me = Owner.me()

    def outcomes(self) -> dict[str, Outcome]:
        """Work until nothing is left to do; an outcome a task."""
        beat = seen = time.monotonic()
        while self.todo or self.running or self.waiting:
            while not self._begin():
                pass
            if not self.running:
                break
            with suppress(queue.Empty):
                name, future = self.ended.get(timeout=LEASE_S / 4)
                self._ended(name, _outcome(future))
            now = time.monotonic()
            if now - beat > LEASE_S / 4:
                self.ledger.beat(self.me)
                seen = now if not self._computing() or self.planes.has_workers() else seen
                beat = now
            if now - seen > GONE_S:
                raise EdgekitError("all workers that compute for the sweep are gone; start it again, and it goes on")
        return self.found

    def _begin(self) -> bool:
        """Hand in all that is ready; False when that settled something, so that more may be ready."""
        before = len(self.found)
        for name in list(self.todo):
            task = self.todo[name]
            lost = next((n for n in task.needs if n in self.found and self.found[n].state != "done"), "")
            if lost:
                self._settle(name, Outcome(self.found[lost].state, error=self.found[lost].error))
            elif all(n in self.found for n in task.needs):
                self._ready(name, task)
        for name in list(self.waiting):
            if self.all[name].devices:
                self._to_device(name)
            else:
                self._to_worker(name)
        self._say()
        return len(self.found) == before

    def _ready(self, name: str, task: Task) -> None:
        """Take what the ledger holds, else let it wait for a place."""
        try:
            call = task.call({n: self.found[n].result or {} for n in task.needs})
        except EdgekitError as error:
            return self._settle(name, Outcome("refused", error=str(error)))
        self.calls[name] = call
        if call.key:
            job = self.ledger.add(call.key, task.kind, task.what)
            if job.state == "done" and job.result is not None:
                if task.still(job.result):
                    return self._settle(name, Outcome("done", job.result))
                self.ledger.reopen(call.key)
        del self.todo[name]
        return self.waiting.append(name)

    def _to_worker(self, name: str) -> None:
        """Compute it; dask finds a place."""
        call = self.calls[name]
        self.waiting.remove(name)
        if call.key:
            if reason := self.ledger.lease(call.key, "", self.me):
                return self._settle(name, Outcome("failed", error=reason))
            self.ledger.start(call.key, "", self.me)
        return self._submit(name, "", self.planes.compute(call.function, *call.arguments))

    def _to_device(self, name: str) -> None:
        """Give it to a device that is free, another one than it failed on where there is a choice."""
        able = [d for d in self.all[name].devices if d not in self.gone]
        if not able:
            why = "; ".join(f"{d}: {self.gone[d]}" for d in self.all[name].devices)
            self.ledger.give_up(self.calls[name].key, why)
            self.waiting.remove(name)
            return self._settle(name, Outcome("failed", error=f"no device is left for it ({why})"))
        free = [d for d in able if d not in self.running.values() and (d != self.last.get(name) or len(able) == 1) and self._quiet(d)]
        if not free:
            return None
        self.waiting.remove(name)
        call, tries = self.calls[name], self.attempts[name]
        delay_s = BACK_OFF_S * 2 ** (tries - 1) if tries and free[0] == self.last.get(name) else 0.0
        arguments = (*call.arguments, free[0], self.devices[free[0]], str(self.ledger.path), call.key, delay_s)
        return self._submit(name, free[0], self.planes.on_device(free[0], call.function, *arguments))

    def _computing(self) -> bool:
        return any(not device for device in self.running.values())

    def _quiet(self, device: str) -> bool:
        """This machine is measured only while none of its cores computes for the sweep, now or soon."""
        soon = any(not self.all[n].devices for n in (*self.todo, *self.waiting))
        there = self.devices[device]
        elsewhere = there is not None and there.address is not None
        return elsewhere or not self.planes.compute_here or not (soon or self._computing())

    def _submit(self, name: str, device: str, future: Any) -> None:
        self.running[name] = device
        future.add_done_callback(lambda done: self.ended.put((name, done)))

    def _ended(self, name: str, outcome: Outcome) -> None:
        device, key = self.running.pop(name), self.calls[name].key
        if device:
            return self._measured(name, device, outcome)
        if key and outcome.state == "done" and outcome.result is not None:
            self.ledger.finish(key, "", self.me, outcome.result)
        elif key:
            self.ledger.fail(key, "", self.me, outcome.error, outcome.state)
        return self._settle(name, outcome)

    def _measured(self, name: str, device: str, outcome: Outcome) -> None:
        """The proxy has written to the ledger; here it is decided whether there is another attempt."""
        self.failures[device] = self.failures[device] + 1 if outcome.again else 0
        if outcome.device_gone or self.failures[device] >= self.plan.attempts:
            self.gone[device] = outcome.error
        if not outcome.again:
            return self._settle(name, outcome)
        self.attempts[name] += 1
        self.last[name] = device
        if self.attempts[name] < self.plan.attempts:
            self.waiting.append(name)
            return None
        self.ledger.give_up(self.calls[name].key, outcome.error)
        return self._settle(name, Outcome("failed", error=f"{outcome.error} ({self.attempts[name]} attempts)"))

    def _settle(self, name: str, outcome: Outcome) -> None:
        self.todo.pop(name, None)
        self.found[name] = outcome

    def _say(self) -> None:
        for what, on_device in (("prepare", False), ("measure", True)):
            names = [n for n, t in self.all.items() if bool(t.devices) == on_device]
            if names:
                self.progress(what, sum(n in self.found for n in names), len(names))


def _outcome(future: Any) -> Outcome:
    """What a future of dask holds; a scheduler or worker that went away, in a sentence."""
    try:
        if future.status == "finished":
            found: Outcome = future.result()
            return found
        error = future.exception() if future.status == "error" else None
    except Exception as lost:  # the scheduler went away in between
        error = lost
    said = str(error or future.status).strip().splitlines()
    return Outcome("failed", error=f"dask lost it: {said[0] if said else type(error).__name__}")
