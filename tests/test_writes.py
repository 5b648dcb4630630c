"""What is written is whole or not there, whoever dies at which moment; and one process at a time writes to a place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgekit import cli, files, flow, lock
from edgekit.errors import EdgekitError, Unwritable
from edgekit.parts import Family
from edgekit.sweep import flow as sweep

ROOT = Path(__file__).parent.parent
HOLD = "import sys, time, pathlib\nfrom edgekit import files, lock\nwith {what}(pathlib.Path(sys.argv[1])):\n    print('in', flush=True)\n    time.sleep(100)"


@contextmanager
def holder(what: str, out: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process within `with WHAT(out)`."""
    command = [sys.executable, "-c", HOLD.format(what=what), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}) as child:
        try:
            assert child.stdout is not None and child.stdout.readline() == "in\n"
            yield child
        finally:
            child.kill()


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def put(out: Path, text: str) -> None:
    with files.folder_draft(out) as draft:
        (draft / "x").write_text(text)


# --- folders and files


def test_a_folder_that_is_replaced_is_never_missing(tmp_path):
    out, missing, stop = tmp_path / "out", [], threading.Event()
    put(out, "0")

    def look() -> None:
        while not stop.is_set():
            if not out.exists():
                missing.append(time.monotonic())

    thread = threading.Thread(target=look)
    thread.start()
    for i in range(200):
        put(out, str(i))
    stop.set()
    thread.join()
    assert (out / "x").read_text() == "199" and names(tmp_path) == {"out"} and not missing


def test_where_names_cannot_change_places_a_killed_process_loses_nothing(tmp_path):
    """Killed between the two renames: the old folder comes back with the next process that writes there."""
    put(tmp_path / "out", "old")
    code = (
        "import os, pathlib, signal, sys\nfrom edgekit import files\nfiles._exchanged = lambda a, b: False\nreal = pathlib.Path.replace\n"
        "def once(path, target):\n    real(path, target)\n    os.kill(os.getpid(), signal.SIGKILL)\npathlib.Path.replace = once\n"
        "with files.folder_draft(pathlib.Path(sys.argv[1])) as draft:\n    (draft / 'x').write_text('new')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -signal.SIGKILL and "out" not in names(tmp_path) and len(names(tmp_path)) == 2
    files.remove_drafts(tmp_path / "out")
    assert names(tmp_path) == {"out"} and (tmp_path / "out" / "x").read_text() == "old"


def test_the_two_renames_end_as_one_exchange(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchanged", lambda a, b: False)
    for text in ("1", "2", "3"):
        put(tmp_path / "out", text)
        assert names(tmp_path) == {"out"} and (tmp_path / "out" / "x").read_text() == text


def test_a_draft_belongs_to_a_process_and_not_to_its_number(tmp_path):
    """What another process makes stays, and is removed once that is dead; so is what a dead one left whose number is in use again."""
    with holder("files.folder_draft", tmp_path / "onnx-5") as child:
        (made,) = tmp_path.iterdir()
        reused = tmp_path / f".draft-onnx-{os.getpid()}-abcdefgh"
        reused.mkdir()
        files.write_text(tmp_path / "onnx", "whole")
        assert names(tmp_path) == {made.name, "onnx"}
        child.kill()
        child.wait()
        assert made.exists()
        files.write_text(tmp_path / "onnx", "whole")
    assert names(tmp_path) == {"onnx"}


def test_a_killed_write_of_a_file_leaves_the_old_one_and_the_next_write_cleans_up(tmp_path):
    files.write_text(tmp_path / "a.json", "old")
    code = (
        "import os, pathlib, signal, sys\nfrom edgekit import files\nos.fsync = lambda h: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write_text(pathlib.Path(sys.argv[1]), 'new')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.json")], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert (tmp_path / "a.json").read_text() == "old" and len(names(tmp_path)) == 2
    files.write_text(tmp_path / "b.json", "another file")
    assert names(tmp_path) == {"a.json", "b.json"}


def test_temporary_files_of_a_killed_process_go_with_the_next(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with holder("(lambda p: files.scratch('x'))", tmp_path), files.scratch("y") as mine:
        assert len(names(tmp_path)) == 2 and mine.parent == tmp_path
    assert len(names(tmp_path)) == 1
    with files.scratch("z") as mine:
        assert names(tmp_path) == {mine.name}
    assert not names(tmp_path)


def test_every_file_and_folder_is_synced_before_it_gets_its_name(tmp_path, monkeypatch):
    """In the order of the calls: nothing is renamed before its content and its own folder are on the disk."""
    calls: list[tuple[str, str]] = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(handle: int) -> None:
        calls.append(("sync", str(Path(f"/proc/self/fd/{handle}").readlink())))
        real_sync(handle)

    def replace(path: Path, target: Path) -> Path:
        calls.append(("name", str(path)))
        return real_replace(path, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    with files.folder_draft(tmp_path / "new" / "out") as draft:
        (draft / "inner").mkdir()
        (draft / "inner" / "x").write_text("1")
    where = str(draft)
    at = calls.index(("name", where))
    assert {p for _, p in calls[:at]} >= {str(tmp_path), where, f"{where}/inner", f"{where}/inner/x"}
    assert calls[at + 1 :] == [("sync", str(tmp_path / "new"))]
    calls.clear()
    files.write_text(tmp_path / "new" / "file", "1")
    assert [kind for kind, _ in calls] == ["sync", "name", "sync"] and calls[0][1] == calls[1][1] and calls[2][1] == str(tmp_path / "new")


# --- one process at a time


def test_a_lock_is_one_sentence_and_ends_with_its_process(tmp_path):
    for what, take in (("lock.run_folder", lock.run_folder), ("lock.new_folder", lock.new_folder)):
        with holder(what, tmp_path / "out") as child:
            with pytest.raises(Unwritable, match=r"another edgekit process works in .*out; wait for it, or choose another folder"), take(tmp_path / "out"):
                pass
            with take(tmp_path / "other"):
                pass
            child.kill()
            child.wait()
            with take(tmp_path / "out"), take(tmp_path / "out"), pytest.raises(Unwritable):  # the same thread may ask again
                in_another_thread(take, tmp_path / "out")
    assert names(tmp_path) == {"out"} and not names(tmp_path / "out")  # of the process that was killed; what else stays empty is removed


def test_of_a_mistyped_name_nothing_stays(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command in ("deploy runs/typo", "deploy runs/typo --out runs/x", "export runs/typo --out made/b", "train typo.toml"):
        monkeypatch.setattr(sys, "argv", ["edgekit", *command.split()])
        assert cli.main() == 2 and capsys.readouterr().err.startswith("error: ")
        assert not names(tmp_path), command


def in_another_thread(take, out: Path) -> None:
    raised: list[BaseException] = []

    def work() -> None:
        try:
            with take(out):
                pass
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def test_of_many_that_come_at_once_one_makes_the_folder_at_a_time(tmp_path):
    """The file of the lock is removed and made anew under their hands."""
    inside: list[int] = []
    refused = done = 0

    def work() -> None:
        nonlocal refused, done
        for _ in range(300):
            try:
                with lock.new_folder(tmp_path / "out"):
                    inside.append(1)
                    assert len(inside) == 1
                    inside.pop()
                    done += 1
            except Unwritable:
                refused += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert done + refused == 1200 and done >= 10 and not names(tmp_path)


@pytest.mark.parametrize("command", [
    "train small.toml --out out", "deploy small.toml --out out --formats onnx", "deploy ../ck --out out --formats onnx", "demo --out out --formats onnx", "sweep plan.toml --out out",
    "export ../ck --out made", "calibrate ../b --method minmax --trust --out made", "data fetch mnist",
])  # fmt: skip
def test_two_commands_on_one_place_are_one_sentence(command, small_run, small_bundle, tmp_path, monkeypatch, capsys):
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "ck").symlink_to(small_run / "train" / "t1")
    (tmp_path / "b").symlink_to(small_bundle)
    (work / "small.toml").write_text((small_run.parent / "small.toml").read_text())
    (work / "plan.toml").write_text('[[models]]\ncheckpoint = "../ck"\n')
    monkeypatch.chdir(work)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EDGEKIT_DATA", raising=False)
    monkeypatch.setattr(sys, "argv", ["edgekit", *command.split()])
    out = tmp_path / "cache" / "data" / "mnist" if "fetch" in command else work / ("made" if "made" in command else "out")
    with holder("lock.run_folder" if out.name == "out" else "lock.new_folder", out):
        assert cli.main() == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: another edgekit process works in ") and said.count("\n") == 0
    assert not out.exists() or not names(out)


@pytest.fixture(scope="module")
def small_bundle(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return flow.export(small_run / "train" / "t1", "onnx", tmp_path_factory.mktemp("bundle") / "b").folder


def test_the_other_processes_of_a_training_take_no_lock(tmp_path, monkeypatch):
    """They run the same command in the same folder, on purpose."""
    (tmp_path / "r.toml").write_text('family = "iir_snn"\n')
    monkeypatch.setattr(flow.registry, "find", lambda kind, name: Fake())

    class Fake:
        def options(self):
            return lambda **values: values

        def fit(self, options, out, progress, devices, nodes):
            return out

    monkeypatch.setattr(flow.recipes, "fill", lambda *a: None)
    with holder("lock.run_folder", tmp_path / "out"):
        for name in ("LOCAL_RANK", "NODE_RANK", "RANK"):
            with monkeypatch.context() as patch:
                patch.setenv(name, "1")
                assert flow.train(tmp_path / "r.toml", tmp_path / "out") == tmp_path / "out" / "train"
        with pytest.raises(Unwritable):
            flow.train(tmp_path / "r.toml", tmp_path / "out")
    assert Family and sweep  # both lock by the same function


def test_a_disk_without_locks_is_used_without_them(tmp_path, monkeypatch):
    def none(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", none)
    with lock.run_folder(tmp_path / "out"), lock.new_folder(tmp_path / "b"):
        put(tmp_path / "b", "1")
    (tmp_path / f".draft-b-{os.getpid()}-abcdefgh").mkdir()
    (tmp_path / ".draft-b-99999999-abcdefgh").mkdir()
    put(tmp_path / "b", "2")
    assert names(tmp_path) == {"b", f".draft-b-{os.getpid()}-abcdefgh"}


@pytest.mark.parametrize(("error", "said"), [
    (OSError(28, "No space left on device"), "No space left on device"), (OSError(2, "No such file"), ""),
    (RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"), "No space left on device"),
    (RuntimeError("write failed (os error 30)"), "Read-only file system"), (ValueError("3 os errors"), ""), (EdgekitError("No space left on device"), ""),
])  # fmt: skip
def test_what_a_disk_said_is_found_in_the_words_of_any_library(error, said):
    assert files.what_the_disk_said(error) == said
