"""Fuzz the readers of the C++ runtime under AddressSanitizer and UndefinedBehaviorSanitizer; one row a target in benchmarks/fuzz_cpp.json.

    python benchmarks/fuzz_cpp.py [--runs 1000000] [--seconds 600] [--more] [--targets npy wav] [--programs FOLDER]

Needs clang with libFuzzer. Each target begins with the committed seeds in a folder of its own; a target that is run again replaces its row.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
OUT = ROOT / "benchmarks" / "fuzz_cpp.json"
FUZZ = ROOT / "runtime" / "fuzz"
TARGETS = ("wav", "npy", "voice", "spike", "json", "safetensors", "manifest", "program")
# Seconds of the wall clock for one input: on a machine whose cores are shared, 10 went by while the process waited for its turn.
OPTIONS = ("-max_len=4096", "-rss_limit_mb=1024", "-timeout=60", "-print_final_stats=1", "-print_pcs=0")
# What was found, by fuzzing or by reading the code as an attacker, and what became of it.
FINDINGS = json.loads((FUZZ / "findings.json").read_text()) if (FUZZ / "findings.json").is_file() else []


def built(folder: Path) -> Path:
    """The folder of the fuzz targets, compiled by clang."""
    sys.path.insert(0, str(ROOT))
    from edgekit.cpp_sources import json_include  # noqa: PLC0415 - the checkout's own, put on the path above

    tools = os.pathsep.join((os.environ["PATH"], str(Path(sys.executable).parent)))
    settings = ["-DEDGEKIT_FUZZ=ON", "-DEDGEKIT_TOOLS=OFF", "-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1", "-DCMAKE_CXX_COMPILER=clang++",
                "-DCMAKE_C_COMPILER=clang", f"-DEDGEKIT_JSON_INCLUDE={json_include()}"]  # fmt: skip
    env = {**os.environ, "PATH": tools}
    generator = ["-G", "Ninja"] if shutil.which("ninja", path=tools) else []
    subprocess.run(["cmake", *generator, "-S", str(ROOT / "runtime"), "-B", str(folder), *settings], check=True, env=env, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", str(folder), "--target", "fuzzers", "--parallel", "1"], check=True, env=env, stdout=subprocess.DEVNULL)
    return folder / "fuzz"


def fuzzed(program: Path, target: str, options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """One row: executions, seconds, coverage, and the file that it ended with, if any."""
    corpus = work / target
    shutil.copytree(FUZZ / "corpus" / target, corpus)
    dictionary = [f"-dict={FUZZ / 'json.dict'}"] if target not in ("npy", "wav") else []
    start, cpu = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    # Short stacks of allocations: long ones take a third of the time and are needed for nothing but reading a report.
    env = {**os.environ, "ASAN_OPTIONS": "malloc_context_size=2"}
    done = subprocess.run([str(program), f"-runs={options.runs}", f"-max_total_time={options.seconds}", *OPTIONS, *dictionary,
                           f"-artifact_prefix={work}/found-{target}-", str(corpus)], capture_output=True, text=True, errors="replace", check=False,
                          env=env)  # fmt: skip
    said = done.stderr

    def last(pattern: str) -> int | None:
        found = re.findall(pattern, said)
        return int(found[-1]) if found else None

    return {
        "target": target, "executions": last(r"number_of_executed_units: (\d+)"), "seconds": round(time.monotonic() - start),
        "cpu_seconds": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - cpu), "coverage_at_start": last(r"INITED cov: (\d+)"),
        "coverage": last(r"DONE +cov: (\d+)"), "features": last(r"DONE +cov: \d+ ft: (\d+)"), "peak_rss_mb": last(r"peak_rss_mb: +(\d+)"),
        "slowest_s": last(r"slowest_unit_time_sec: +(\d+)"), "exit_code": done.returncode,
        "finding": None if done.returncode == 0 else said[-2000:],
    }  # fmt: skip


def added(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """A row of two runs that both began with the seeds: executions and seconds of both, and what the better one reached."""
    sums = {k: old[k] + new[k] for k in ("executions", "seconds", "cpu_seconds") if new[k] is not None}
    most = {k: max(old[k] or 0, new[k] or 0) for k in ("coverage", "features", "peak_rss_mb", "slowest_s", "exit_code")}
    return new | sums | most | {"runs": old.get("runs", 1) + 1, "finding": old["finding"] or new["finding"]}


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--seconds", type=int, default=0, help="end each target after so long, whatever --runs says")
    parser.add_argument("--more", action="store_true", help="add to the rows that are there instead of replacing them")
    parser.add_argument("--programs", type=Path, help="a folder of targets that are built already")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="edgekit-fuzz-") as temporary:
        work = Path(temporary)
        programs = options.programs or built(work / "build")
        compiler = subprocess.run(["clang++", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
        for target in options.targets:
            row = fuzzed(programs / f"fuzz-{target}", target, options, work)
            old = json.loads(OUT.read_text())["rows"] if OUT.is_file() else []
            same = [r for r in old if r["target"] == target]
            rows = [r for r in old if r["target"] != target] + [added(same[0], row) if same and options.more else row]
            OUT.write_text(json.dumps({
                "command": "python benchmarks/fuzz_cpp.py", "compiler": compiler, "options": " ".join(OPTIONS[:3]),
                "sanitizers": "address, undefined, float-cast-overflow; -O1", "rows": sorted(rows, key=lambda r: TARGETS.index(r["target"])),
                "findings": FINDINGS,
            }, indent=1) + "\n")  # fmt: skip
            print(f"{target}: {row['executions']} executions in {row['seconds']} s, coverage {row['coverage']}, exit {row['exit_code']}", flush=True)
            for file in work.glob(f"found-{target}-*"):
                shutil.copy2(file, Path.cwd())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
