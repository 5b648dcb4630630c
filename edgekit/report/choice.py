"""What a reader decides between: which candidates are on the front, what they are called in short, and the verdict on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from edgekit.candidate import Candidate, Cost, Quantity, front
from edgekit.report import numbers
from edgekit.report.data import Run
from edgekit.report.table import Cell, Column, Table, Tone, cells

COSTS: Mapping[Cost, tuple[str, str]] = {"latency_ms": ("latency", "ms"), "energy_mj": ("energy", "mJ")}
DOUBTFUL = ("NOISY", "THROTTLED", "TOO-SHORT")
WITHIN = 0.01  # of quality: one point of a percentage, or a hundredth of the best of any other score
COUNTED = {"estimate": "only estimated", "estimate, calibrated": "only estimated (calibrated)", "counter": "from a counter"}
READ = "read from a clock or a meter"
NAMED = 3  # candidates that one sentence names


def plotted(candidates: Iterable[Candidate], cost: Cost) -> list[Candidate]:
    """Those with a quality and this cost; a simulator's time is no latency of anything."""
    there = (c for c in candidates if c.quality is not None and getattr(c, cost) is not None)
    return [c for c in there if cost != "latency_ms" or c.verdict != "SIMULATED"]


def front_of(candidates: Iterable[Candidate], cost: Cost) -> list[Candidate]:
    """The candidates that no other one dominates, cheapest first."""
    return front(plotted(candidates, cost), cost)


def short_names(candidates: Sequence[Candidate]) -> dict[str, str]:
    """name -> what tells it from the others: parts that all share are left out."""
    several_models = len({c.model for c in candidates}) > 1
    several_steps = len({c.steps for c in candidates}) > 1 and not several_models
    several_targets = len({c.target for c in candidates}) > 1
    short = {
        c.name: (f"{c.model} " if several_models else "")
        + (f"T={c.steps} " if several_steps and c.steps else "")
        + (c.format if ":" in c.format or not c.precision else f"{c.format}:{c.precision}")
        + (f" on {c.target}" if several_targets else "")
        + (f", {c.runtime}" if c.runtime else "")
        for c in candidates
    }
    once = Counter(short.values())
    return {name: s if once[s] == 1 else name for name, s in short.items()}


def sentences(run: Run) -> tuple[str, ...]:
    """Best quality and cheapest, what is measured and what is not, and the figures that are not to be trusted."""
    if not run.candidates:
        return ()
    told = (_best(run), *(_cheapest(run, cost) for cost in COSTS), _known(run), _doubtful(run))
    return tuple(s for s in told if s)


def _scored(run: Run) -> list[Candidate]:
    return [c for c in run.candidates if c.quality is not None]


def _best(run: Run) -> str:
    scored = _scored(run)
    if not scored:
        return "No candidate has a score, so that there is nothing to weigh costs against."
    top = max(c.quality or 0.0 for c in scored)
    tied = [c for c in scored if c.quality == top]
    # Among equals: what was measured comes before what is estimated, then the faster.
    best = min(tied, key=lambda c: (c.latency_ms is None or c.latency_ms.estimated, c.latency_ms.value if c.latency_ms else 0.0))
    cost = f", {_told(best, 'latency_ms')}" if best in plotted([best], "latency_ms") else ""
    others = f"; {len(tied) - 1} others reach the same" if len(tied) > 2 else "; one other reaches the same" if len(tied) == 2 else ""
    return f"Best quality: {short_names(run.candidates)[best.name]}, {numbers.score(run, top)} {run.score_name}{cost}{others}."


def _cheapest(run: Run, cost: Cost) -> str:
    """The cheapest of those almost as good as the best: of the readings, and of each rule that estimates, never across them."""
    word, _ = COSTS[cost]
    top = max((c.quality or 0.0 for c in _scored(run)), default=0.0)
    least = top - (WITHIN if numbers.is_share(run) else WITHIN * abs(top))
    pool = sorted((c for c in plotted(run.candidates, cost) if (c.quality or 0.0) >= least), key=lambda c: of(c, cost).value)
    if not pool:
        return ""
    ways = methods(pool, cost)
    told = [_first(run, [c for c in pool if method(c, cost) == way], cost) for way in ways[:NAMED]]
    if of(pool[0], cost).estimated and len(ways) > 1 and READ in ways:
        told[1] = f"by estimate alone {told[1]}"
    within = "1 point" if numbers.is_share(run) else "1 %"
    apart = ". Different rules of estimating are not held against each other" if len(ways) > 2 or (len(ways) > 1 and READ not in ways) else ""
    return f"Cheapest within {within} of it by {word}: {'; '.join(told)}{apart}."


def _first(run: Run, pool: Sequence[Candidate], cost: Cost) -> str:
    """The cheapest of a pool that rises in cost, and with how many it may change places."""
    first, near = pool[0], [c for c in pool[1:] if of(c, cost).low <= of(pool[0], cost).high]
    text = f"{short_names(run.candidates)[first.name]}, {numbers.score(run, first.quality)}, {_told(first, cost)}"
    return text + (f" - {len(near)} other{'s' if len(near) > 1 else ''} cannot be told from it" if near else "")


def method(c: Candidate, cost: Cost) -> str:
    """How a cost is known: all readings are one way; estimates are as many as there are rules."""
    q = of(c, cost)
    return q.note or "no rule named" if q.estimated else READ


def methods(candidates: Iterable[Candidate], cost: Cost) -> list[str]:
    """The different ways in which their cost is known, readings first."""
    return sorted(dict.fromkeys(method(c, cost) for c in candidates), key=lambda way: way != READ)


def of(c: Candidate, cost: Cost) -> Quantity:
    """The cost of a candidate that has it."""
    found: Quantity = getattr(c, cost)
    return found


def _told(c: Candidate, cost: Cost) -> str:
    """`0.412 ms (measured, NOISY)`, `~0.9 ms (estimate by roofline 1: 0.5–3.1)`."""
    q = of(c, cost)
    how = f" by {q.note}: {numbers.interval(q.low, q.high)}" if q.estimated else ""
    doubt = f", {c.verdict}" if c.verdict in DOUBTFUL and cost == "latency_ms" else ""
    return f"{numbers.quantity(q)} {COSTS[cost][1]} ({numbers.KINDS[q.kind]}{how}{doubt})"


def _known(run: Run) -> str:
    told = []
    for cost, (word, _) in COSTS.items():
        there = {c.name for c in run.candidates if getattr(c, cost) is not None} - {
            c.name for c in run.candidates if cost == "latency_ms" and c.verdict == "SIMULATED"
        }
        kinds = Counter(numbers.KINDS[of(c, cost).kind] for c in run.candidates if c.name in there)
        parts = [f"{n} {COUNTED.get(kind, kind)}" for kind, n in kinds.most_common()]
        if missing := len(run.candidates) - len(there):
            simulated = sum(c.verdict == "SIMULATED" for c in run.candidates) if cost == "latency_ms" else 0
            parts.append(f"{missing} none" + (f" ({simulated} of them simulated)" if simulated else ""))
        told.append(f"{word} {', '.join(parts)}")
    count = len(run.candidates)
    return f"How the costs of the {count} candidate{'s' * (count > 1)} are known: {'; '.join(told)}."


def _doubtful(run: Run) -> str:
    short = short_names(run.candidates)
    told = []
    for verdict in DOUBTFUL:
        names = [short[c.name] for c in run.candidates if c.verdict == verdict]
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            told.append(f"{verdict}: {'; '.join(names[:NAMED])}{more}.")
    return " ".join(told)


def table(run: Run) -> Table:
    """A row per candidate: those on a front first, then best quality first."""
    ordered, short = in_order(run.candidates), short_names(run.candidates)
    marks = front_marks(run.candidates)
    return Table(
        title="Candidates",
        kind="mixed",
        columns=(
            Column("candidate", is_text=True), Column("front", is_text=True), Column(f"{run.score_name}{' %' if numbers.is_share(run) else ''}"),
            Column("p50 ms", is_text=True), Column("low–high ms", wide=True), Column("mJ", is_text=True), Column("low–high mJ", wide=True),
            Column("MB RAM", wide=True), Column("MB files", wide=True),
        ),
        rows=tuple(_row(run, c, short[c.name], marks[c.name]) for c in ordered),
        caption="front: no other candidate is at least as good and certainly cheaper; ~ is an estimate, and overlapping intervals are not ranked",
    )  # fmt: skip


def in_order(candidates: tuple[Candidate, ...]) -> list[Candidate]:
    """Those on a front first, each part by quality; among equals the faster, a known latency before none."""
    far, marks = float("inf"), front_marks(candidates)

    def key(c: Candidate) -> tuple[bool, float, float, str]:
        return not marks[c.name], -c.quality if c.quality is not None else far, c.latency_ms.value if c.latency_ms else far, c.name

    return sorted(candidates, key=key)


@lru_cache(maxsize=4)
def front_marks(candidates: tuple[Candidate, ...]) -> Mapping[str, str]:
    """name -> the units by which it is on the front: "", "ms", "mJ" or "ms, mJ"."""
    on = {unit: {c.name for c in front_of(candidates, cost)} for cost, (_, unit) in COSTS.items()}
    return {c.name: ", ".join(unit for unit, names in on.items() if c.name in names) for c in candidates}


def _row(run: Run, c: Candidate, short: str, mark: str) -> tuple[Cell, ...]:
    return cells(
        short, Cell(mark, "good" if mark else ""), Cell(numbers.score(run, c.quality, unit=False), "" if c.quality is not None else "dim", c.quality),
        _cost_cell(None if c.verdict == "SIMULATED" else c.latency_ms, c.verdict), _span_cell(None if c.verdict == "SIMULATED" else c.latency_ms),
        _cost_cell(c.energy_mj), _span_cell(c.energy_mj), numbers.significant(c.memory_mb),
        numbers.megabytes(c.bytes_total) if c.bytes_total is not None else numbers.NONE,
    )  # fmt: skip


def _cost_cell(q: Quantity | None, verdict: str = "") -> Cell:
    """The figure with its kind, where that is not `measured`, and its verdict, where that is not VALID."""
    if verdict == "SIMULATED":
        return Cell("(simulated)", "dim")
    if q is None:
        return Cell(numbers.NONE, "dim")
    doubtful = f" {verdict}" if verdict not in ("", "VALID") else ""
    kind = "" if q.kind == "measured" else f" ({numbers.KINDS[q.kind].split(',')[0]})"
    tone: Tone = "estimate" if q.estimated else "bad" if doubtful else ""
    return Cell(f"{numbers.quantity(q)}{kind}{doubtful}", tone, q.value)


def _span_cell(q: Quantity | None) -> Cell:
    text = numbers.NONE if q is None else numbers.interval(q.low, q.high)
    return Cell(text, "dim" if text == numbers.NONE else "estimate" if q is not None and q.estimated else "", q.low if q else None)
