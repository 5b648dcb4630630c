"""Voice conversion as a user runs it: trained and judged, deployed, timed chunk by chunk; kept as JSON, drawn into docs/stream_voice.md.

    python benchmarks/voice.py train RECIPE [--out runs/NAME]     benchmarks/NAME.json; goes on where it was stopped
    python benchmarks/voice.py speed BUNDLE                       one pinned core, C++ and Python: a chunk of 20 ms, and where its time goes
    python benchmarks/voice.py page
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from diffusion import BEGIN, END, command, device, rows, train

HERE = Path(__file__).parent
ROOT = HERE.parent
CHUNK_MS = 20.0


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=["train", "speed", "page"])
    parser.add_argument("source", nargs="?", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.verb == "page":
        page()
        return 0
    if given.source is None:
        parser.error(f"{given.verb} needs a recipe or a bundle")
    if given.verb == "train":
        name, found = given.source.stem, train(given.source, given.out or Path("runs") / given.source.stem)
    else:
        name, found = "stream_voice_speed", speed(given.source)
    (HERE / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    return 0


def speed(bundle: Path) -> dict[str, Any]:
    """Latency and CPU time of a chunk on one pinned thread, by engine."""
    told = []
    for engine in ("onnxruntime", "cpp"):
        command("verify", str(bundle), "--runtime", engine, "--score-limit", "0")
        timed, _ = command("profile", str(bundle), "--runtime", engine, "--threads", "1", "--seconds", "10")
        m = timed["measurements"][0] if "measurements" in timed else timed
        told.append({"runtime": engine, **{k: v for k, v in m.items() if k.startswith("latency_p") or k.startswith("cpu_") or k == "verdict"}})
    return {"command": "edgekit profile BUNDLE --threads 1", "machine": device(), "rows": told}


def page() -> None:
    """Replace what lies between the two marks of the page."""
    path = ROOT / "docs" / "stream_voice.md"
    begin = BEGIN.replace("diffusion.py", "voice.py")
    head, _, rest = path.read_text().partition(begin)
    _, _, tail = rest.partition(END)
    path.write_text(f"{head}{begin}\n\n{drawn()}\n{END}{tail}")


def drawn() -> str:
    """All tables, from the JSON files that are there."""
    lines: list[str] = []
    for path in sorted(HERE.glob("stream_voice*.json")):
        found = json.loads(path.read_text())
        lines += [f"### {path.stem.replace('_', ' ')}", "", f"`{found['command']}`, {found['machine']}.", ""]
        for table in found.get("tables", []):
            lines += [f"**{table['title']}.** {table['caption']}", "", *rows(table["columns"], table["rows"]), ""]
        if path.stem.endswith("_speed"):
            columns = list(found["rows"][0])
            lines += [*rows(columns, [[r.get(c) for c in columns] for r in found["rows"]]), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
