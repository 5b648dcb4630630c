"""What a sweep has done, in one SQLite file: a job a row, exclusive leases of devices, and every run on a device, for ever.

A lease belongs to a process. One that is dead has lost its leases: on this machine the kernel says so at once, of another
machine the heartbeat does. Events are only ever appended, and their ids are the order in which they were committed, so
that "no two runs on one device at a time" is a query that no clock can spoil.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from edgekit.errors import Broken, EdgekitError
from edgekit.sweep.owner import Owner

APPLICATION_ID = 0x45446B4C  # "EDkL", in the header of the file: any other SQLite file is somebody else's
VERSION = 1
LEASE_S = 60.0  # how long a lease of an owner on another machine is good for without a heartbeat
BUSY_S = 30.0  # how long a transaction waits for another process's

State = Literal["queued", "leased", "running", "done", "failed", "refused"]
HELD = ("leased", "running")

SCHEMA = (
    """CREATE TABLE jobs (
  key TEXT PRIMARY KEY, kind TEXT NOT NULL, what TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('queued', 'leased', 'running', 'done', 'failed', 'refused')),
  owner TEXT, until REAL, attempts INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '', result TEXT,
  CHECK ((state IN ('leased', 'running')) = (owner IS NOT NULL)), CHECK ((state = 'done') = (result IS NOT NULL)))""",
    "CREATE TABLE devices (name TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL, key TEXT NOT NULL)",
    """CREATE TABLE events (
  id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL CHECK (what IN ('start', 'end')), start_id INTEGER,
  device TEXT NOT NULL, key TEXT NOT NULL, at_ns INTEGER NOT NULL, owner TEXT NOT NULL, outcome TEXT NOT NULL,
  CHECK ((what = 'end') = (start_id IS NOT NULL)))""",
    "CREATE UNIQUE INDEX one_end ON events (start_id) WHERE start_id IS NOT NULL",
    "CREATE TRIGGER events_stay BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are only appended'); END",
    "CREATE TRIGGER events_last BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are only appended'); END",
    """CREATE VIEW runs AS
  SELECT s.device, s.key, s.at_ns AS start_ns, e.at_ns AS end_ns, s.owner, e.outcome, s.id AS start_id, e.id AS end_id
  FROM events s LEFT JOIN events e ON e.start_id = s.id WHERE s.what = 'start'""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)


@dataclass(frozen=True)
class Job:
    """A row of the ledger. `result` is there exactly when it is done."""

    key: str
    kind: str
    what: str  # for people
    state: State
    attempts: int
    error: str  # of the last attempt
    result: Mapping[str, Any] | None


@dataclass(frozen=True)
class Run:
    """One run on a device; times of the wall clock. No end: it runs, or its owner died and nobody has looked since."""

    device: str
    key: str
    start_ns: int
    end_ns: int | None
    owner: str
    outcome: str | None  # done, failed, again, lost


class Ledger:
    """An opened ledger; threads may share it. EdgekitError for a file that is none, that is damaged, or of another version."""

    def __init__(self, path: Path | str) -> None:
        self.path, self._lock = Path(path), threading.RLock()
        with self._mendable():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # autocommit: transactions are begun by hand, as IMMEDIATE, so that reading and then writing cannot interleave
            self._db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; leases stay."""
        with self._lock:
            self._db.close()

    def add(self, key: str, kind: str, what: str) -> Job:
        """Queue a job. One that is done, or held by a living process, stays as it is; one that failed or was refused is queued again."""
        with self._transaction():
            self._reclaim()
            self._db.execute(
                "INSERT INTO jobs (key, kind, what, state) VALUES (?, ?, ?, 'queued') ON CONFLICT (key) DO UPDATE SET "
                "state = 'queued', attempts = 0, error = '' WHERE state IN ('failed', 'refused')", (key, kind, what),
            )  # fmt: skip
        return self.job(key)

    def refuse(self, key: str, kind: str, what: str, reason: str) -> None:
        """Write down a job that cannot be done, and why; what is done already stays done."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO jobs (key, kind, what, state, error) VALUES (?, ?, ?, 'refused', ?) ON CONFLICT (key) DO UPDATE SET "
                "state = 'refused', error = excluded.error WHERE state IN ('queued', 'failed', 'refused')", (key, kind, what, reason),
            )  # fmt: skip

    def job(self, key: str) -> Job:
        """The job of that key; EdgekitError when there is none."""
        with self._lock, self._mendable():
            row = self._db.execute(f"SELECT {_JOB} FROM jobs WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise EdgekitError(f"{self.path} knows no job {key[:16]}; add it first")
        return _job(row)

    def jobs(self, kind: str = "") -> list[Job]:
        """All jobs, or those of a kind, in the order they were added."""
        with self._lock, self._mendable():
            rows = self._db.execute(f"SELECT {_JOB} FROM jobs WHERE ? IN ('', kind) ORDER BY rowid", (kind,)).fetchall()
        return [_job(row) for row in rows]

    def lease(self, key: str, device: str, owner: Owner) -> str:
        """Empty: job and device are this owner's now, and nobody else's. Else the reason. device "": the job needs none.

        What processes hold that have died is given back first.
        """
        until = time.time() + LEASE_S
        with self._transaction():
            self._reclaim()
            row = self._db.execute("SELECT state, owner FROM jobs WHERE key = ?", (key,)).fetchone()
            if row is None or row[0] != "queued":
                return f"the job is {row[0]}" + (f" by {row[1]}" if row[1] else "") if row else "there is no such job"
            held = self._db.execute("SELECT owner FROM devices WHERE name = ?", (device,)).fetchone()
            if held:
                return f"{device} is leased by {held[0]}"
            self._db.execute("UPDATE jobs SET state = 'leased', owner = ?, until = ? WHERE key = ?", (str(owner), until, key))
            if device:
                self._db.execute("INSERT INTO devices VALUES (?, ?, ?, ?)", (device, str(owner), until, key))
        return ""

    def start(self, key: str, device: str, owner: Owner) -> None:
        """The work begins; on a device, append its start. EdgekitError when the lease is not this owner's."""
        with self._transaction():
            self._held(key, device, owner, "leased")
            self._db.execute("UPDATE jobs SET state = 'running', attempts = attempts + 1 WHERE key = ?", (key,))
            if device:
                self._event("start", None, device, key, str(owner), "")

    def finish(self, key: str, device: str, owner: Owner, result: Mapping[str, Any]) -> None:
        """It is done: store the result, append the end, give the lease back."""
        text = json.dumps(result, sort_keys=True, allow_nan=False)
        with self._transaction():
            self._held(key, device, owner, *HELD)
            self._end(key, device, owner, "done")
            self._db.execute("UPDATE jobs SET state = 'done', owner = NULL, until = NULL, error = '', result = ? WHERE key = ?", (text, key))

    def fail(self, key: str, device: str, owner: Owner, error: str, state: State) -> None:
        """It ended without a result: append the end if it had begun, give the lease back; "queued": to be tried again."""
        with self._transaction():
            self._held(key, device, owner, *HELD)
            self._end(key, device, owner, "again" if state == "queued" else "failed")
            self._db.execute("UPDATE jobs SET state = ?, owner = NULL, until = NULL, error = ? WHERE key = ?", (state, error, key))

    def reopen(self, key: str) -> None:
        """What was done is gone (a folder was removed): it is to be done again."""
        with self._transaction():
            self._db.execute("UPDATE jobs SET state = 'queued', result = NULL WHERE key = ? AND state = 'done'", (key,))

    def give_up(self, key: str, error: str) -> None:
        """A queued job that nobody can run any more has failed."""
        with self._transaction():
            self._db.execute("UPDATE jobs SET state = 'failed', error = ? WHERE key = ? AND state = 'queued'", (error, key))

    def beat(self, owner: Owner) -> None:
        """The owner lives: its leases are good for another LEASE_S."""
        until = time.time() + LEASE_S
        with self._transaction():
            for table in ("jobs", "devices"):
                self._db.execute(f"UPDATE {table} SET until = ? WHERE owner = ?", (until, str(owner)))

    def reclaim(self) -> list[tuple[str, str]]:
        """Give back what dead processes hold: (key, device) of each job that is queued again."""
        with self._transaction():
            return self._reclaim()

    def runs(self) -> list[Run]:
        """Every run on a device, in the order they began."""
        with self._lock, self._mendable():
            rows = self._db.execute("SELECT device, key, start_ns, end_ns, owner, outcome FROM runs ORDER BY start_id").fetchall()
        return [Run(*row) for row in rows]

    def overlaps(self) -> list[tuple[str, str, str]]:
        """(device, key, key) of any two runs of which the second began before the first had ended; there must be none."""
        with self._lock, self._mendable():
            return self._db.execute(
                "SELECT a.device, a.key, b.key FROM runs a JOIN runs b ON a.device = b.device AND a.start_id < b.start_id "
                "WHERE a.end_id IS NULL OR a.end_id > b.start_id"
            ).fetchall()

    def _prepare(self) -> None:
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        application, version = (self._db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("application_id", "user_version"))
        if tables and application != APPLICATION_ID:
            raise EdgekitError(f"{self.path} is a database of another program, not a sweep's ledger; give another --out")
        if tables and version != VERSION:
            raise EdgekitError(f"{self.path} is a ledger of version {version}, this edgekit writes {VERSION}; give another --out")
        if tables and (said := self._db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise Broken(f"{self.path} is damaged ({said.splitlines()[-1]}); remove it, and the sweep measures again")
        (mode,) = self._db.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise EdgekitError(f"{self.path}: SQLite cannot keep a write-ahead log there; give --out a folder on a local disk")
        self._db.execute("PRAGMA synchronous = FULL")  # a finished run outlives a power cut
        if not tables:
            with self._transaction():
                if not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    for statement in SCHEMA:
                        self._db.execute(statement)

    def _held(self, key: str, device: str, owner: Owner, *states: str) -> None:
        """Refuse to write on a lease that was taken back meanwhile."""
        row = self._db.execute("SELECT state, owner FROM jobs WHERE key = ?", (key,)).fetchone()
        there = self._db.execute("SELECT owner, key FROM devices WHERE name = ?", (device,)).fetchone()
        if row is None or row[0] not in states or row[1] != str(owner) or (device and there != (str(owner), key)):
            raise EdgekitError(f"the lease of {device or 'job'} {key[:16]} is not held any more; another sweep works in {self.path.parent}")

    def _end(self, key: str, device: str, owner: Owner | str, outcome: str) -> None:
        """Append the end of a run that has begun and free the device."""
        begun = self._db.execute(
            "SELECT max(start_id) FROM runs WHERE key = ? AND device = ? AND end_id IS NULL", (key, device)
        ).fetchone()[0]
        if begun is not None:
            self._event("end", begun, device, key, str(owner), outcome)
        self._db.execute("DELETE FROM devices WHERE name = ? AND key = ?", (device, key))

    def _event(self, what: str, start_id: int | None, device: str, key: str, owner: str, outcome: str) -> None:
        self._db.execute(
            "INSERT INTO events (what, start_id, device, key, at_ns, owner, outcome) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (what, start_id, device, key, time.time_ns(), owner, outcome),
        )

    def _reclaim(self) -> list[tuple[str, str]]:
        held = self._db.execute(
            "SELECT j.key, j.owner, j.until, j.state, coalesce(d.name, '') FROM jobs j LEFT JOIN devices d ON d.key = j.key "
            "WHERE j.owner IS NOT NULL"
        ).fetchall()
        dead = [(key, owner, device) for key, owner, until, _, device in held if not Owner.read(owner).alive(until)]
        for key, owner, device in dead:
            self._end(key, device, owner, "lost")
            self._db.execute(
                "UPDATE jobs SET state = 'queued', owner = NULL, until = NULL, error = 'its sweep was killed' WHERE key = ?", (key,)
            )
        return [(key, device) for key, _, device in dead]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, self._mendable():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _mendable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EdgekitError(f"cannot write {self.path}: {error.strerror or error}; choose another --out") from None
        except sqlite3.OperationalError as error:
            raise EdgekitError(f"cannot use the ledger {self.path}: {error}; see that it is writable and that no other program holds it") from None
        except sqlite3.DatabaseError as error:
            raise Broken(f"{self.path} is no ledger of a sweep, or is damaged ({error}); move it away, and the sweep measures again") from None


_JOB = "key, kind, what, state, attempts, error, result"


def _job(row: tuple[Any, ...]) -> Job:
    key, kind, what, state, attempts, error, result = row
    return Job(key, kind, what, state, attempts, error, None if result is None else json.loads(result))
