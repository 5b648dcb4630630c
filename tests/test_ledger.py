"""The ledger of a sweep: a device has one run at a time, whatever dies; and nothing that is done is done again."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgekit.errors import EdgekitError
from edgekit.sweep.ledger import LEASE_S, Ledger
from edgekit.sweep.owner import Owner

ROOT = Path(__file__).parent.parent
WORKER = """
import fcntl, random, sys, time
from edgekit.sweep.ledger import Ledger
from edgekit.sweep.owner import Owner
path, log, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
rng, me = random.Random(seed), Owner.me()
with Ledger(path) as ledger:
    while todo := [j for j in ledger.jobs() if j.state != "done"]:
        key, device = rng.choice(todo).key, rng.choice(["a", "b"])
        if ledger.lease(key, device, me):
            time.sleep(0.002)
            continue
        with open(f"{log}.{device}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError, and exit code 1, where somebody else is on the device
            ledger.start(key, device, me)
            time.sleep(rng.random() * 0.004)
            with open(log, "a") as file:
                print(key, device, flush=True, file=file)
        if rng.random() < 0.2:
            ledger.fail(key, device, me, "connection lost", state="queued")
        else:
            ledger.finish(key, device, me, {"by": me.pid})
"""


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


def python(code: str, *args: object) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, args)], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def holder(ledger: Ledger, key: str, device: str) -> subprocess.Popen[str]:
    """A process that has started a job on a device and then sits there."""
    child = python(
        "import sys, time\nfrom edgekit.sweep.ledger import Ledger\nfrom edgekit.sweep.owner import Owner\n"
        "l = Ledger(sys.argv[1])\nassert l.lease(sys.argv[2], sys.argv[3], Owner.me()) == ''\nl.start(sys.argv[2], sys.argv[3], Owner.me())\n"
        "print('held', flush=True)\ntime.sleep(60)", ledger.path, key, device)  # fmt: skip
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    return child


def kill(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGKILL)
    child.communicate()


def test_three_processes_contend_for_two_devices_and_no_runs_overlap(ledger, tmp_path):
    for i in range(40):
        ledger.add(f"k{i}", "measure", f"job {i}")
    log = tmp_path / "log"
    children = [python(WORKER, ledger.path, log, seed) for seed in range(3)]
    for child in children:
        _, said = child.communicate(timeout=60)
        assert child.returncode == 0, said  # a flock of their own on each device says the same as the ledger
    assert all(job.state == "done" for job in ledger.jobs())
    runs = ledger.runs()
    assert ledger.overlaps() == []
    for device in ("a", "b"):
        spans = sorted((r.start_ns, r.end_ns) for r in runs if r.device == device)
        assert all(before[1] <= after[0] for before, after in zip(spans, spans[1:], strict=False))
    assert sorted(line.split()[0] for line in log.read_text().splitlines()) == sorted(r.key for r in runs)
    assert [r.outcome for r in runs].count("done") == 40
    assert len({r.owner for r in runs}) > 1  # they did contend
    assert sum(job.attempts for job in ledger.jobs()) == len(runs)


def test_an_overlap_would_be_seen(ledger):
    """The query is no tautology: two starts without an end between them are found."""
    ledger.add("k1", "measure", "")
    ledger.lease("k1", "a", Owner.me())
    ledger.start("k1", "a", Owner.me())
    with sqlite3.connect(ledger.path) as db:
        db.execute("INSERT INTO events (what, device, key, at_ns, owner, outcome) VALUES ('start', 'a', 'k2', 1, 'x 1 1', '')")
    db.close()
    assert ledger.overlaps() == [("a", "k1", "k2")]


def test_a_device_is_leased_once_even_to_its_own_process(ledger):
    for key in ("k1", "k2"):
        ledger.add(key, "measure", "")
    me = Owner.me()
    assert ledger.lease("k1", "a", me) == ""
    assert "a is leased by" in ledger.lease("k2", "a", me)
    assert "the job is leased" in ledger.lease("k1", "b", me)
    assert ledger.lease("k2", "b", me) == ""


def test_what_a_killed_process_held_is_free_at_once_and_its_run_counts_as_lost(ledger):
    ledger.add("k1", "measure", "")
    child = holder(ledger, "k1", "a")
    assert ledger.reclaim() == []  # alive
    assert "the job is running" in ledger.lease("k1", "a", Owner.me())
    kill(child)
    assert ledger.lease("k1", "a", Owner.me()) == ""
    ledger.start("k1", "a", Owner.me())
    ledger.finish("k1", "a", Owner.me(), {})
    assert [r.outcome for r in ledger.runs()] == ["lost", "done"]
    assert ledger.overlaps() == []
    assert ledger.job("k1").attempts == 2


def test_a_process_that_is_stopped_but_alive_keeps_its_lease_past_any_heartbeat(ledger, monkeypatch):
    ledger.add("k1", "measure", "")
    child = holder(ledger, "k1", "a")
    child.send_signal(signal.SIGSTOP)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 100 * LEASE_S)
    assert ledger.reclaim() == []  # it may wake up in the middle of its run
    kill(child)
    assert ledger.reclaim() == [("k1", "a")]


def test_a_reused_process_id_is_not_taken_for_the_owner():
    me = Owner.me()
    assert me.alive(0.0)
    assert not dataclasses.replace(me, began=str(int(me.began) - 1)).alive(time.time() + 60)


def test_of_another_machine_the_heartbeat_decides(ledger):
    ledger.add("k1", "measure", "")
    elsewhere = Owner("another-boot/pid:[1]", 1, "1")
    assert ledger.lease("k1", "a", elsewhere) == ""
    assert ledger.reclaim() == []
    with sqlite3.connect(ledger.path) as db:
        db.execute("UPDATE jobs SET until = until - ?", (LEASE_S + 1,))
    db.close()
    ledger.beat(elsewhere)
    assert ledger.reclaim() == []
    with sqlite3.connect(ledger.path) as db:
        db.execute("UPDATE jobs SET until = until - ?", (LEASE_S + 1,))
    db.close()
    assert ledger.reclaim() == [("k1", "a")]


def test_who_lost_the_lease_cannot_write_a_result(ledger):
    ledger.add("k1", "measure", "")
    gone, me = Owner("another-boot/pid:[1]", 1, "1"), Owner.me()
    ledger.lease("k1", "a", gone)
    ledger.start("k1", "a", gone)
    with sqlite3.connect(ledger.path) as db:
        db.execute("UPDATE jobs SET until = 0")
    db.close()
    assert ledger.lease("k1", "a", me) == ""
    with pytest.raises(EdgekitError, match="not held any more"):
        ledger.finish("k1", "a", gone, {})
    ledger.start("k1", "a", me)
    ledger.finish("k1", "a", me, {"right": 1})
    assert ledger.job("k1").result == {"right": 1}


def test_what_is_done_stays_done_and_what_failed_is_queued_again(ledger):
    me = Owner.me()
    for key in ("done", "failed", "lost"):
        ledger.add(key, "measure", "")
        ledger.lease(key, "a", me)
        ledger.start(key, "a", me)
        if key == "done":
            ledger.finish(key, "a", me, {"p50": 1.5})
        if key == "failed":
            ledger.fail(key, "a", me, "wrong answers", state="failed")
    ledger.refuse("no", "measure", "", "no bf16 there")
    ledger.refuse("done", "measure", "", "changed my mind")
    assert ledger.job("failed").error == "wrong answers"
    assert [ledger.add(k, "measure", "").state for k in ("done", "failed", "lost", "no")] == ["done", "queued", "running", "queued"]
    assert ledger.job("done").result == {"p50": 1.5}
    assert "the job is done" in ledger.lease("done", "a", me)


def test_events_can_be_neither_changed_nor_removed(ledger):
    ledger.add("k1", "measure", "")
    ledger.lease("k1", "a", Owner.me())
    ledger.start("k1", "a", Owner.me())
    with sqlite3.connect(ledger.path) as db:
        for statement in ("UPDATE events SET at_ns = 0", "DELETE FROM events"):
            with pytest.raises(sqlite3.IntegrityError, match="only appended"):
                db.execute(statement)
    db.close()


def test_threads_share_one_ledger(ledger):
    for i in range(60):
        ledger.add(f"k{i}", "measure", "")

    def work(device: str) -> None:
        for i in range(60):
            if not ledger.lease(f"k{i}", device, Owner.me()):
                ledger.start(f"k{i}", device, Owner.me())
                ledger.finish(f"k{i}", device, Owner.me(), {"on": device})

    threads = [threading.Thread(target=work, args=(d,)) for d in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {job.state for job in ledger.jobs()} == {"done"}
    assert len(ledger.runs()) == 60


def test_killed_at_any_moment_the_file_is_whole(ledger):
    """Writers are killed at random moments; the file opens, its check passes, and every job is done in the end."""
    rng = random.Random(5)
    for i in range(200):
        ledger.add(f"k{i}", "measure", "")
    for seed in range(6):
        child = python(WORKER, ledger.path, ledger.path.with_name("log"), seed)
        time.sleep(0.15 + 0.25 * rng.random())
        kill(child)
        with Ledger(ledger.path) as again:
            again.reclaim()
            assert {j.state for j in again.jobs()} <= {"queued", "done"}
            assert again.overlaps() == []
    child = python(WORKER, ledger.path, ledger.path.with_name("log"), 9)
    assert child.communicate(timeout=60) == ("", "")
    outcomes = [r.outcome for r in ledger.runs()]
    assert outcomes.count("done") == 200
    assert None not in outcomes


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("text", b"not a database, but a text of some length" * 200, "no ledger of a sweep"),
        ("cut", None, "damaged|no ledger"),
        ("folder", "folder", "cannot use the ledger"),
    ],
)
def test_a_file_that_is_no_ledger_ends_in_one_sentence_and_is_left_alone(tmp_path, name, content, said):
    path = tmp_path / "x.sqlite"
    if content == "folder":
        path.mkdir()
    elif content is None:
        with Ledger(path) as made:
            for i in range(500):
                made.add(f"k{i}", "measure", "x" * 200)
        whole = path.read_bytes()
        path.write_bytes(whole[:4096] + bytes(reversed(whole[4096:])))
    else:
        path.write_bytes(content)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(EdgekitError, match=said) as raised:
        Ledger(path)
    assert "\n" not in str(raised.value)
    assert not path.is_file() or path.read_bytes() == before


def test_a_database_of_another_program_and_of_a_later_version_are_refused(tmp_path):
    foreign = sqlite3.connect(tmp_path / "foreign.sqlite")
    foreign.execute("CREATE TABLE photos (name TEXT)")
    foreign.commit()
    foreign.close()
    with pytest.raises(EdgekitError, match="another program"):
        Ledger(tmp_path / "foreign.sqlite")
    with Ledger(tmp_path / "later.sqlite"):
        pass
    later = sqlite3.connect(tmp_path / "later.sqlite")
    later.execute("PRAGMA user_version = 99")
    later.close()
    with pytest.raises(EdgekitError, match="version 99"):
        Ledger(tmp_path / "later.sqlite")


def test_a_job_that_was_never_added_is_told_so(ledger):
    with pytest.raises(EdgekitError, match="knows no job"):
        ledger.job("k")
    assert ledger.lease("k", "a", Owner.me()) == "there is no such job"


def test_a_result_that_is_not_finite_is_not_stored(ledger):
    ledger.add("k", "measure", "")
    ledger.lease("k", "a", Owner.me())
    with pytest.raises(ValueError, match="JSON"):
        ledger.finish("k", "a", Owner.me(), {"p50": float("nan")})
    assert ledger.job("k").state == "leased"
    with pytest.raises(EdgekitError, match="not held"):
        ledger.start("k", "b", Owner.me())
