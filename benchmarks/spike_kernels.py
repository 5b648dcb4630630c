"""One convolution of the spike engine by events and as a product of bytes, beside the most that this processor's instructions can do.

    python benchmarks/spike_kernels.py > benchmarks/spike_kernels.json          # a processor with AVX512-VNNI
    python benchmarks/spike_kernels.py > benchmarks/spike_kernels_avx2.json     # one with AVX2 alone

Builds runtime/bench/spike.cpp and runs it pinned to one core, three times; the run with the best dense kernel is kept whole.
The first also draws docs/pictures/spike_engine.svg.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from edgekit.cpp_sources import json_include, sources
from edgekit.profile import device_name

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "pictures" / "spike_engine.svg"
RUNS = 3


def main() -> int:
    """Prints one JSON document."""
    with tempfile.TemporaryDirectory() as folder:
        configure = ["cmake", "-S", str(sources()), "-B", folder, "-DEDGEKIT_BENCH=ON", "-DEDGEKIT_TOOLS=OFF",
                     f"-DEDGEKIT_JSON_INCLUDE={json_include()}"]  # fmt: skip
        subprocess.run(configure, check=True, capture_output=True)
        subprocess.run(["cmake", "--build", folder, "--target", "edgekit-bench-spike", "--parallel", "2"], check=True, capture_output=True)
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        program = [str(Path(folder) / "edgekit-bench-spike")]
        runs = [json.loads(subprocess.run(program, check=True, capture_output=True, text=True).stdout) for _ in range(RUNS)]
    best: dict[str, Any] = max(runs, key=lambda r: r["dense_gmac_s"])
    for row in best["rates"]:
        row["dense_over_events"] = round(row["dense_p50_us"] / row["events_p50_us"], 2)
    found = {"command": "python benchmarks/spike_kernels.py", "machine": device_name(), "layer": "128 to 128 channels, 3x3, 16x16 places", **best}
    if found["kernels"] == "avx512-vnni":
        PICTURE.write_text(picture(found))
    print(json.dumps(found, indent=1))
    return 0


def picture(found: dict[str, Any]) -> str:
    """SVG: how events become spikes, and what a layer of them takes."""
    rows = found["rates"]
    left, top, width, height = 560, 50, 330, 220
    most_us = max(max(r["events_p50_us"], r["dense_p50_us"]) for r in rows) * 1.1

    def at(rate: float, us: float) -> str:
        return f"{left + rate / 0.5 * width:.1f},{top + height - us / most_us * height:.1f}"

    def line(name: str, colour: str) -> str:
        points = " ".join(at(r["rate"], r[name]) for r in rows)
        dots = "".join('<circle cx="{}" cy="{}" r="3" fill="{}"/>'.format(*at(r["rate"], r[name]).split(","), colour) for r in rows)
        return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'

    marks = "".join(
        f'<text x="{left + tenth / 5 * width:.0f}" y="{top + height + 18}" text-anchor="middle">{10 * tenth} %</text>'
        for tenth in range(6)
    )
    step = 50 if most_us < 400 else 100
    marks += "".join(
        f'<text x="{left - 6}" y="{at(0, us).split(",")[1]}" text-anchor="end" dy="4">{us}</text>' for us in range(0, int(most_us), step)
    )
    last = rows[-1]
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 920 320" font-family="sans-serif" font-size="13" fill="#222">
<rect width="920" height="320" fill="#fff"/>
{_scheme()}
<text x="{left}" y="30" font-weight="bold">A 3x3 layer of 128 channels, µs ({found["kernels"]})</text>
<path d="M{left},{top} V{top + height} H{left + width}" fill="none" stroke="#888"/>{marks}
<text x="{left + width / 2:.0f}" y="{top + height + 38}" text-anchor="middle">inputs that spike</text>
{line("dense_p50_us", "#888")}{line("events_p50_us", "#c0392b")}
<text x="{left + 12}" y="{float(at(0, rows[0]["dense_p50_us"]).split(",")[1]) - 8:.0f}" fill="#666">as a product of bytes</text>
<text x="{left + width - 4}" y="{float(at(0.5, last["events_p50_us"]).split(",")[1]) - 8:.0f}" text-anchor="end" fill="#c0392b">by events</text>
</svg>
"""


def _scheme() -> str:
    """A map of bits, the list of its ones, rows of weights in pairs, sums, bits."""
    bits = [(0, 1), (0, 5), (1, 3), (2, 0), (2, 6)]
    cells = "".join(
        f'<rect x="{20 + 14 * c}" y="{60 + 14 * r}" width="12" height="12" fill="{"#c0392b" if (r, c) in bits else "#eee"}"/>'
        for r in range(3)
        for c in range(8)
    )
    weights = "".join(
        f'<rect x="{250 + 9 * c}" y="{50 + 15 * r}" width="8" height="12" fill="{"#2980b9" if c % 2 else "#85c1e9"}"/>'
        for r in range(5)
        for c in range(16)
    )
    sums = "".join(f'<rect x="{250 + 18 * c}" y="178" width="17" height="14" fill="#2980b9"/>' for c in range(8))
    fired = (2, 3, 9, 14)
    out = "".join(f'<rect x="{250 + 9 * c}" y="256" width="8" height="12" fill="{"#c0392b" if c in fired else "#eee"}"/>' for c in range(16))
    return f"""<text x="20" y="30" font-weight="bold">A place of the output, by events</text>
<text x="20" y="52">bits under the kernel</text>{cells}
<path d="M140,81 H165" stroke="#222" marker-end="url(#a)"/>
<defs><marker id="a" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto"><path d="M0,0 L8,4 L0,8 z"/></marker></defs>
<text x="172" y="62">the ones, as</text><text x="172" y="78">numbers:</text><text x="172" y="98" fill="#c0392b">1 5 11 16 22</text>
<path d="M222,118 H246" stroke="#222" marker-end="url(#a)"/>
<text x="250" y="42">a row of int8 weights each</text>{weights}
<text x="405" y="72">two weights</text><text x="405" y="88">in a 16-bit lane</text>
<path d="M322,130 V172" stroke="#222" marker-end="url(#a)"/><text x="330" y="155">added: nothing is multiplied</text>
{sums}<text x="405" y="190">exact up to 256 events,</text><text x="405" y="206">then on to 32 bits</text>
<path d="M322,198 V250" stroke="#222" marker-end="url(#a)"/><text x="330" y="232">&gt; threshold</text>{out}
<text x="405" y="267">spikes: bits</text>"""


if __name__ == "__main__":
    sys.exit(main())
