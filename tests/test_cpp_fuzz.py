"""The fuzz targets of the C++ readers: their seeds, and thousands of changes of them, under the sanitizers of any compiler; libFuzzer where clang is."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cpp_sanitized import compiled, configured, sanitized

from edgekit import files
from edgekit.cpp_sources import sources
from edgekit.data import cache_folder

ROOT = Path(__file__).parent.parent
FUZZ = ROOT / "runtime" / "fuzz"
TARGETS = tuple(sorted(p.stem.removeprefix("fuzz_") for p in FUZZ.glob("fuzz_*.cpp")))
CHANGED = {"manifest": 3000, "program": 3000}  # longer texts take longer
RUNS = 20_000
MOST_SEED_BYTES, MOST_CORPORA_BYTES = 4096, 100_000


@pytest.fixture(scope="module")
def replays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sanitized(tmp_path_factory, "replays") / "fuzz"


@pytest.mark.builds
@pytest.mark.parametrize("target", TARGETS)
def test_seeds_and_changes_of_them_are_read_or_refused(replays: Path, target: str, capsys: pytest.CaptureFixture[str]):
    changed = CHANGED.get(target, 5000)
    done = subprocess.run([replays / f"replay-{target}", FUZZ / "corpus" / target, "--mutations", str(changed)],
                          capture_output=True, text=True, check=False, timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    seeds = len(list((FUZZ / "corpus" / target).iterdir()))
    assert done.stdout == f"{seeds} files, {changed} changed: no finding\n" and seeds >= 3
    with capsys.disabled():
        print(f"\n{target}: {done.stdout.strip()}", end="")


@pytest.mark.builds
def test_a_replay_notices_what_a_target_expects(replays: Path, tmp_path: Path):
    """The programs do fail: one that is asked for a file that is not there, as any target does whose EXPECT does not hold."""
    done = subprocess.run([replays / "replay-json", tmp_path / "none"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: cannot read")


def test_there_is_a_target_for_each_reader_and_its_seeds_are_small():
    named = re.search(r"EDGEKIT_FUZZ_TARGETS ([a-z ]+)\)", (FUZZ / "CMakeLists.txt").read_text())
    assert named and tuple(named[1].split()) == TARGETS == ("json", "manifest", "npy", "program", "safetensors", "spike", "voice", "wav")
    sizes = [p.stat().st_size for p in (FUZZ / "corpus").rglob("*") if p.is_file()]
    assert max(sizes) <= MOST_SEED_BYTES and sum(sizes) <= MOST_CORPORA_BYTES


def test_the_committed_run_was_long_and_found_nothing_more():
    found = json.loads((ROOT / "benchmarks" / "fuzz_cpp.json").read_text())
    rows = {r["target"]: r for r in found["rows"]}
    assert tuple(sorted(rows)) == TARGETS
    for row in rows.values():
        assert row["exit_code"] == 0 and row["finding"] is None and row["coverage"] >= row["coverage_at_start"]
    assert found["findings"] and all(set(f) == {"reader", "input", "was", "now"} for f in found["findings"])


@pytest.fixture(scope="module")
def fuzzers() -> Path:
    """Built once for each state of the sources: clang takes minutes for them."""
    if not shutil.which("clang++"):
        pytest.skip("no clang++, which has libFuzzer")
    digest = hashlib.sha256()
    for file in sorted(p for n in ("src", "fuzz", "include") for p in (sources() / n).rglob("*.[ch]pp")):
        digest.update(file.read_bytes())
    kept = cache_folder() / f"fuzz-{digest.hexdigest()[:12]}"
    if not kept.is_dir():
        with files.folder_draft(kept) as draft:
            settings = ("-DEDGEKIT_FUZZ=ON", "-DEDGEKIT_TOOLS=OFF", "-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1", "-DCMAKE_CXX_COMPILER=clang++", "-DCMAKE_C_COMPILER=clang")
            compiled(configured(draft / "b", *settings), "fuzzers")
            for target in TARGETS:
                shutil.move(draft / "b" / "fuzz" / f"fuzz-{target}", draft / f"fuzz-{target}")
            shutil.rmtree(draft / "b")
    return kept


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_a_short_run_of_libfuzzer_finds_nothing(fuzzers: Path, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shutil.copytree(FUZZ / "corpus" / target, tmp_path / "corpus")
    done = subprocess.run([fuzzers / f"fuzz-{target}", f"-runs={RUNS}", "-seed=1", "-max_len=4096", "-rss_limit_mb=1024", "-timeout=10",
                           f"-artifact_prefix={tmp_path}/", tmp_path / "corpus"], capture_output=True, text=True, errors="replace", check=False,
                          env={**os.environ, "ASAN_OPTIONS": "malloc_context_size=2"})  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    cover = re.findall(r"DONE +cov: (\d+)", done.stderr)
    with capsys.disabled():
        print(f"\n{target}: {RUNS} executions, coverage {cover[-1]}", end="")
