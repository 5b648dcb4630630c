"""A job on a device: one at a time under a lock, in a process group of its own, time-limited, and independent of the connection.

    WORK/lock            held by whoever pushes or measures; the job inherits it, so that it is free when the job is dead
    WORK/jobs/KEY/       job, steps, plan.json; while it runs: alive (locked), progress; when it has ended: ended
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from edgekit.errors import Broken, EdgekitError
from edgekit.measurement import Progress
from edgekit.remote.ssh import Busy, Dropped, Shell, Talk
from edgekit.remote.store import Parcel, push

T = TypeVar("T")
LONGEST_LEASE_S = 3600  # of pushing; a lease whose connection hangs ends then
LONGEST_JOB_S = 24 * 3600
FRESH_S = 24 * 3600  # a result that nobody fetched is worth fetching so long
OLD_DAYS, UNUSED_DAYS = 7, 30  # results that nobody fetched, and pushed files that nobody used, are removed then

# "$1" work folder, "$2" longest wait in s, "$3" a word of this call: its own lease from before a lost connection is ended.
LEASE = """umask 077
mkdir -p "$1/jobs" && cd "$1" && work=$(pwd -P) || exit 73
if [ -f owner ]; then
  read -r pid word <owner
  if [ "$word" = "$3" ] && [ "$(readlink "/proc/$pid/fd/9")" = "$work/lock" ]; then kill "$pid"; fi
fi
exec 9>>lock || exit 73
waited=0
until flock -n 9; do
  if [ "$waited" -ge "$2" ]; then echo busy; exit 75; fi
  echo "waiting $waited"
  sleep 1
  waited=$((waited + 1))
done
echo "$$ $3" >owner
echo leased
while read -r verb key limit; do
  [ "$verb" = start ] || break
  if exec 8>"jobs/$key/alive" && flock -n 8; then
    setsid sh "jobs/$key/job" "$work/jobs/$key" "$limit" </dev/null >/dev/null 2>&1 &
    echo started
  else
    echo taken
  fi
  exec 8>&-
done"""
# Descriptor 8 holds "alive" and 9 the device's lock, for as long as anything of the job lives. KILL, since a model may hang
# so that it hears nothing else; `timeout` of BusyBox ends the first process only, so the whole group goes at the end.
JOB = """cd "$1" || exit 73
trap '' HUP
echo $$ >pid
began=$(date +%s)
timeout -s KILL "$2" sh ./steps </dev/null >out 2>err &
child=$!
stopped=
trap 'stopped=143; kill -s TERM "$child"' TERM
wait "$child"
code=$?
if [ -n "$stopped" ]; then wait "$child"; code=$stopped; fi
echo "$code $began $(date +%s)" >ended.part
mv ended.part ended
kill -s KILL -- "-$$"
"""
STATE = """cd "$1" 2>/dev/null || { echo none; exit 0; }
if [ ! -f ended ] && [ -f alive ] && ! flock -n alive true; then echo running; exit 0; fi
if [ -f ended ]; then echo "ended $(cat ended) $(date +%s)"; else echo dead; fi"""
# The lock tells when the job is dead without looking again and again, which would disturb what it measures.
FOLLOW = """cd "$1" || exit 0
tail -n +1 -f progress &
flock -s alive true
kill $!"""
STOP = """cd "$1" || exit 0
read -r pid <pid && [ "$(readlink "/proc/$pid/fd/8")" = "$(pwd -P)/alive" ] && kill -s TERM "$pid" """
COLLECT = """cd "$1" || exit 1
shift
for name in "$@"; do
  [ -f "$name" ] || continue
  echo "$name $(wc -c <"$name") $(sha256sum <"$name" | cut -c 1-64)"
  cat "$name"
done"""
TIDY = f"""cd "$1" || exit 0
rm -rf "jobs/$2" "jobs/$2.part"
find jobs -mindepth 1 -maxdepth 1 -mtime +{OLD_DAYS} -exec rm -rf {{}} +
[ ! -d bundles ] || find bundles -mindepth 1 -maxdepth 1 -mtime +{UNUSED_DAYS} -exec rm -rf {{}} +
[ ! -d tools ] || find tools -mindepth 1 -maxdepth 1 -mtime +{UNUSED_DAYS} -exec rm -rf {{}} + """


@dataclass(frozen=True)
class Job:
    """What is to be done. steps: a POSIX shell script that runs in the job's folder and writes `results` there; it appends
    lines "DONE TOTAL WHAT" to the file progress. plan: what is needed to understand the results, stored beside them."""

    steps: str
    results: Sequence[str]
    plan: Mapping[str, Any]
    limit_s: int


@dataclass(frozen=True)
class Found:
    """What a job left: its exit code (137: killed), how long it took, its plan, and its files."""

    code: int
    seconds: int
    plan: Mapping[str, Any]
    files: Mapping[str, bytes]

    def text(self, name: str) -> str:
        """A file as text; empty when it is not there."""
        return self.files.get(name, b"").decode(errors="replace").strip()


async def result_of(
    shell: Shell, work: str, key: str, prepare: Callable[[], Awaitable[Job]], understand: Callable[[Found], T], word: str, progress: Progress
) -> T:
    """What `understand` makes of the job of this key: of one that was begun before, by this call or one that was killed; else
    of a new one. The job is removed from the device when it has been understood, or was refused.

    prepare: brings what the job needs and says what it is; called under the device's lock. word: of this call, see LEASE.
    Busy when the device is not free within its wait_s; Dropped when the connection is lost, or the job is.
    """
    name, folder = shell.device.name, f"{work}/jobs/{key}"
    state, times = await _state(shell, folder)
    if state == "ended" and times[3] - times[2] > FRESH_S:
        state = "old"
    if state not in ("running", "ended"):
        async with _lease(shell, work, word, progress) as lease:
            await shell.run(TIDY, work, key)
            job = await prepare()
            plan = {**job.plan, "results": list(job.results), "limit_s": job.limit_s}
            contents = {"job": JOB.encode(), "steps": job.steps.encode(), "plan.json": json.dumps(plan).encode(), "progress": b""}
            await push(shell, work, Parcel(f"jobs/{key}", contents, "the job"), lambda *_: None)
            lease.say(f"start {key} {job.limit_s}")
            if (said := await lease.line()) != "started":
                raise EdgekitError(f"{name} did not start the job: it said {said!r}")
    else:
        progress(f"pick up what {name} {'measures' if state == 'running' else 'has measured'} for this request", 0, 1)
    try:
        await _follow(shell, folder, progress)
    except BaseException as error:
        if not isinstance(error, Exception):  # a person stops it: nobody is to wait for it on the device either
            with suppress(EdgekitError):
                await shell.run(STOP, folder, limit_s=5)
        raise
    found = await _collected(shell, folder)
    try:
        return understand(found)
    finally:
        await shell.run('rm -rf "$1"', folder)


@asynccontextmanager
async def _lease(shell: Shell, work: str, word: str, progress: Progress) -> AsyncIterator[Talk]:
    """The device for us alone. A job that is started within inherits the lock; else it is free when the block ends, or when
    the connection does."""
    device = shell.device
    wait_s = math.ceil(device.wait_s)
    async with shell.talk(LEASE, work, str(wait_s), word, limit_s=wait_s + LONGEST_LEASE_S) as lease:
        while (line := await lease.line()) != "leased":
            if line is None and lease.code == 73:
                raise EdgekitError(f"{device.name} cannot write to {work}: give the device another work_dir")
            if line is None:
                raise Dropped(f"the lock of {device.name} was lost while it was waited for")
            if line == "busy":
                raise Busy(f"somebody else has measured on {device.name} for {device.wait_s:g} s; try again later, or give it a longer wait_s")
            progress(f"wait for {device.name}: somebody else measures there", int(line.split()[1]), max(1, wait_s))
        yield lease
        lease.say("end")


async def _follow(shell: Shell, folder: str, progress: Progress) -> None:
    """Hand on the job's progress until it has ended."""
    name = shell.device.name
    async with shell.talk(FOLLOW, folder, limit_s=LONGEST_JOB_S) as talk:
        while (line := await talk.line()) is not None:
            done, _, rest = line.partition(" ")
            total, _, what = rest.partition(" ")
            if done.isdigit() and total.isdigit():
                progress(f"{name}: {what}", int(done), int(total))


async def _state(shell: Shell, folder: str) -> tuple[str, list[int]]:
    """none, running, dead (killed: no result will come) or ended with (exit code, begin, end, now), in the device's seconds."""
    state, *times = (await shell.run(STATE, folder)).text.split() or ["none"]
    if state == "ended" and len(times) != 4:  # the device lost power while it was written
        return "dead", []
    return state, [int(t) for t in times]


async def _collected(shell: Shell, folder: str) -> Found:
    """Fetch the results and check that they came whole."""
    name = shell.device.name
    state, times = await _state(shell, folder)
    if state != "ended":
        raise Dropped(f"the job on {name} is gone without a result: it was killed, or the device was started anew")
    code, began, ended, _ = times
    plan = json.loads(_unpacked(await _fetch(shell, folder, ["plan.json"]), name)["plan.json"])
    found = _unpacked(await _fetch(shell, folder, [*plan["results"], "failed", "err"]), name)
    return Found(code, ended - began, plan, found)


async def _fetch(shell: Shell, folder: str, names: Sequence[str]) -> bytes:
    answer = await shell.run(COLLECT, folder, *names, limit_s=600)
    if answer.code:
        raise Dropped(f"the result on {shell.device.name} is gone: somebody else fetched it; measure again")
    return answer.out


def _unpacked(packed: bytes, name: str) -> dict[str, bytes]:
    """Files from what COLLECT printed."""
    import hashlib

    found = {}
    while packed:
        head, _, packed = packed.partition(b"\n")
        file, size, sha256 = head.decode().split()
        found[file], packed = packed[: int(size)], packed[int(size) :]
        if hashlib.sha256(found[file]).hexdigest() != sha256:
            raise Broken(f"{file} from {name} is not what the device sent: it changed on the way")
    return found
