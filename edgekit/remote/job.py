"""A job on a device: one at a time under a lock, in a process group of its own, time-limited, and independent of the connection.

    WORK/lock            held by whoever pushes or measures; the job inherits it, so that it is free when the job is dead
    WORK/jobs/KEY/       job, steps, plan.json; while it runs: alive (locked), progress; when it has ended: ended
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from edgekit import limits
from edgekit.errors import Broken, EdgekitError
from edgekit.measurement import Progress
from edgekit.plain_text import shown
from edgekit.remote.ssh import COMMAND_S, LOOK, Busy, Dropped, Misbehaved, Shell, Silent, Talk
from edgekit.remote.store import Parcel, push
from edgekit.text_file import parse_json

T = TypeVar("T")
LONGEST_LEASE_S = 3600  # of pushing; a lease whose connection hangs ends then
LONGEST_JOB_S = 24 * 3600
FRESH_S = 24 * 3600  # a result that nobody fetched is worth fetching so long
LATE_S = 120  # for the device to see that a job has ended, beyond the job's own limit
FETCH_S = 600  # for all of a result
MOST_RESULTS = 2_000  # files of a job
RESULT = re.compile(r"\w[\w.-]{0,99}", re.ASCII)  # the name of one; never a path
HEAD = re.compile(rb"(\w[\w.-]{0,99}) +(\d{1,15}) ([0-9a-f]{64})")  # of a file that is fetched
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
    shell: Shell, work: str, key: str, prepare: Callable[[], Awaitable[Job]], understand: Callable[[Found], T], word: str, progress: Progress,
    limit_s: float = LONGEST_JOB_S,
) -> T:  # fmt: skip
    """What `understand` makes of the job of this key: of one that was begun before, by this call or one that was killed; else
    of a new one. The job is removed from the device when it has been understood, or was refused.

    prepare: brings what the job needs and says what it is; called under the device's lock. word: of this call, see LEASE.
    limit_s: how long it may take, known here, since what a device says about it is not believed. Busy when the device is
    not free within its wait_s; Dropped when the connection is lost, or the job is.
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
            if (said := await lease.line(COMMAND_S)) != "started":
                raise EdgekitError(f"{name} did not start the job: it said '{shown(said)}'")
    else:
        progress(f"pick up what {name} {'measures' if state == 'running' else 'has measured'} for this request", 0, 1)
    try:
        await _follow(shell, folder, progress, limit_s)
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
        end = time.monotonic() + 2 * wait_s + COMMAND_S  # a busy device's seconds are longer
        while (line := await lease.line(min(COMMAND_S, end - time.monotonic()))) != "leased":
            if line is None and lease.code == 73:
                raise EdgekitError(f"{device.name} cannot write to {work}: give the device another work_dir")
            if line is None:
                raise Dropped(f"the lock of {device.name} was lost while it was waited for")
            if line == "busy":
                raise Busy(f"somebody else has measured on {device.name} for {device.wait_s:g} s; try again later, or give it a longer wait_s")
            if waited := re.fullmatch(r"waiting ([0-9]{1,9})", line):
                progress(f"wait for {device.name}: somebody else measures there", min(int(waited[1]), max(1, wait_s)), max(1, wait_s))
        yield lease
        lease.say("end")


async def _follow(shell: Shell, folder: str, progress: Progress, limit_s: float) -> None:
    """Hand on the job's progress until it has ended; Misbehaved when it goes on for longer than the device was told to let it."""
    name, told, end = shell.device.name, 0, time.monotonic() + limit_s + LATE_S
    async with shell.talk(FOLLOW, folder, limit_s=limit_s + LATE_S + COMMAND_S) as talk:
        try:
            while (line := await talk.line(end - time.monotonic())) is not None:
                news = re.fullmatch(r"([0-9]{1,9}) ([0-9]{1,9}) (.+)", line)
                if news and told < limits.DEVICE_NEWS:
                    told += 1
                    progress(f"{name}: {shown(news[3], 60)}", int(news[1]), int(news[2]))
        except Silent:
            if time.monotonic() < end:
                raise
            raise Misbehaved(f"{name} was to stop the job after {limit_s:.0f} s and still works on it; {LOOK}") from None


async def _state(shell: Shell, folder: str) -> tuple[str, list[int]]:
    """none, running, dead (killed: no result will come) or ended with (exit code, begin, end, now), in the device's seconds."""
    text = (await shell.run(STATE, folder)).text
    state, *times = text.split(None, 5)[:5] or ["none"]
    if state == "ended" and len(times) != 4:  # the device lost power while it was written
        return "dead", []
    if state not in ("none", "running", "dead", "ended") or not all(re.fullmatch(r"[0-9]{1,12}", t) for t in times):
        raise Misbehaved(f"{shell.device.name} was asked how a job is and said '{shown(text)}'; {LOOK}")
    return state, [int(t) for t in times]


async def _collected(shell: Shell, folder: str) -> Found:
    """Fetch the results and check that they came whole."""
    name = shell.device.name
    state, times = await _state(shell, folder)
    if state != "ended":
        raise Dropped(f"the job on {name} is gone without a result: it was killed, or the device was started anew")
    code, began, ended, _ = times
    plan = _plan((await _fetch(shell, folder, ["plan.json"], limits.DEVICE_JSON_BYTES)).get("plan.json", b""), name)
    found = await _fetch(shell, folder, [*plan["results"], "failed", "err"], limits.DEVICE_RESULT_BYTES)
    texts = sum(len(content) for file, content in found.items() if not file.endswith(".safetensors"))
    if texts > limits.DEVICE_TEXT_BYTES:
        raise Misbehaved(f"{name} has {texts:,} bytes of text about a measurement, and {limits.DEVICE_TEXT_BYTES:,} are taken; {LOOK}")
    return Found(code, ended - began, plan, found)


def _plan(text: bytes, name: str) -> dict[str, Any]:
    """The plan as the device has kept it: as much a stranger's as the results are."""
    data = parse_json(text, f"the plan of a job on {name}", "measure again")
    results, limit_s = (data.get("results"), data.get("limit_s", 0)) if isinstance(data, dict) else (None, 0)
    named = isinstance(results, list) and len(results) <= MOST_RESULTS and all(isinstance(r, str) and RESULT.fullmatch(r) for r in results)
    if not named or not isinstance(limit_s, int) or not 0 <= limit_s < limits.DEVICE_NUMBER:
        raise Misbehaved(f"the plan of a job on {name} is none that edgekit wrote; {LOOK}")
    return dict(data)


async def _fetch(shell: Shell, folder: str, names: Sequence[str], most_bytes: int) -> dict[str, bytes]:
    answer = await shell.run(COLLECT, folder, *names, limit_s=FETCH_S, most_bytes=most_bytes)
    if answer.code:
        raise Dropped(f"the result on {shell.device.name} is gone: somebody else fetched it; measure again")
    return unpacked(answer.out, names, shell.device.name)


def unpacked(packed: bytes, names: Sequence[str], name: str) -> dict[str, bytes]:
    """Files from what COLLECT printed: those that were asked for, once each and as long as it says."""
    found: dict[str, bytes] = {}
    at = 0
    while at < len(packed):
        end = packed.find(b"\n", at, at + 200)
        head = HEAD.fullmatch(packed, at, end) if end > 0 else None
        file = head[1].decode() if head else ""
        if head is None or file not in names or file in found:
            raise Misbehaved(f"{name} was asked for the files of a job and sent '{shown(packed[at : at + 60].decode(errors='replace'))}'; {LOOK}")
        content = packed[end + 1 : end + 1 + int(head[2])]
        if len(content) != int(head[2]) or hashlib.sha256(content).hexdigest() != head[3].decode():
            raise Broken(f"{file} from {name} is not what the device sent: it changed on the way")
        found[file] = content
        at = end + 1 + len(content)
    return found
