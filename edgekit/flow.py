"""The main flow, a step a line: train -> export -> calibrate -> compile -> verify -> profile -> report. READ FIRST."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from edgekit import examine, intake, limits, lock, registry, report, sniff
from edgekit import recipe as recipes
from edgekit.bundle import MANIFEST, Bundle, open_bundle
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import Broken, EdgekitError, Missing, NotEqual, Unwritable, no_such
from edgekit.files import canonical_json, remove_drafts, write_text
from edgekit.intake import Wishes
from edgekit.measurement import Progress, silent
from edgekit.parts import Calibrator, Family, Runtime, Trained
from edgekit.plain_text import one_line
from edgekit.process_run import Request
from edgekit.program import fusable
from edgekit.report.data import Run
from edgekit.route import Step, all_steps, route, runtimes_of
from edgekit.run_folder import DEFAULT_FORMATS, REFUSED, read_run, read_samples, refused_formats
from edgekit.text_file import parse_json

AGAIN = "run `edgekit train` again, what is trained is kept"
OWN_FORMATS = ("onnx", "openvino")  # of a user's own model; with calibration data these as well:
OWN_QUANTISED = ("onnx:int8", "openvino:int8", "openvino:bf16")


def run(recipe: Path | str, out: Path, formats: Sequence[str] = (), progress: Progress = silent, **options: Any) -> Run:
    """A recipe all the way: trained, deployed, reported. Run again, it goes on where it was stopped."""
    wishes = formats or deploy_formats(recipe)
    check_ready(wishes, options.get("allow_missing", False))
    with lock.run_folder(out):
        checkpoint = train(recipe, out, progress)
        bundles = deploy(checkpoint, out, wishes, progress, **options)
        found = write_report(out)
    require_all(bundles, out)
    return found


def train(recipe: Path | str, out: Path, progress: Progress = silent, devices: int = 1, nodes: int = 1) -> Path:
    """Train by a recipe into `out/train`; the folder of the checkpoint to deploy."""
    read = recipes.read(recipe)
    family = registry.find(Family, read.family)
    options = recipes.fill(family.options(), {k: v for k, v in read.values.items() if k != "deploy"}, str(recipe))
    with lock.run_folder(out) if is_first_process() else nullcontext():  # the others work in the same folder on purpose, and write nothing
        return family.fit(options, out / "train", progress, devices, nodes)


def deploy(  # noqa: PLR0913 - what a person can choose of the whole flow
    source: Path | str, out: Path, formats: Sequence[str] = DEFAULT_FORMATS, progress: Progress = silent, *,
    score_limit: int | None = None, seconds: float = 1.0, allow_missing: bool = False, wishes: Wishes | None = None,
    processes: int = 5,
) -> list[Bundle]:  # fmt: skip
    """Export a checkpoint or a user's own model (by `wishes`) to every format wished (and what lies on the way), verify
    each, profile each that passed."""
    skipped = check_ready(formats, allow_missing)
    with lock.run_folder(out):
        trained = intake.read(str(source), wishes or Wishes()) if intake.is_own(str(source)) else load_trained(Path(source))
        if "onnx" in formats and fusable(trained.program):
            formats = (*formats, "onnx-fused")  # the loop and the fused graph are timed side by side
        routes = [route(w) for w in formats]
        steps = list(dict.fromkeys(step for r in routes for step in r))
        bundles = _made(steps, trained, out, progress)
        for i, bundle in enumerate(bundles):
            progress(f"verify and profile {bundle.label}", i, len(bundles))
            examine.deployed(bundle, trained, skipped, score_limit, Request(seconds=seconds, processes=processes))
        examine.estimate_here(bundles)
    progress("deploy", len(bundles), len(bundles))
    return bundles


def _made(steps: Sequence[Step], trained: Trained, out: Path, progress: Progress) -> list[Bundle]:
    """A bundle a step, as far as the formats can say the model; refused.json says of the others why not."""
    bundles: dict[str, Bundle] = {}
    refused: dict[str, str] = {}
    for i, step in enumerate(steps):
        progress(f"make {step.label}", i, len(steps))
        if step.accepts in refused:
            refused[step.label] = f"it is made from {step.accepts}, which was refused"
            continue
        try:
            bundles[step.label] = make(step, trained, bundles, out / "bundles" / step.label.replace(":", "-"), progress)
        except Unwritable:
            raise
        except EdgekitError as error:  # this format cannot say the model; the others can
            refused[step.label] = str(error)
    write_text(out / REFUSED, canonical_json(refused))
    return list(bundles.values())


def make(
    step: Step, trained: Trained | None, bundles: Mapping[str, Bundle], out: Path, progress: Progress = silent,
    chosen: Mapping[str, Any] | None = None,
) -> Bundle:  # fmt: skip
    """Run one step to the folder `out`; what it made there before from the same inputs is kept. chosen: options of the part
    that are not to have their defaults."""
    part = registry.find(step.kind, step.part)
    for name in chosen or {}:
        if name not in part.options:
            raise no_such(f"option of {step.label}", name, part.options)
    options = {**part.options, **(chosen or {})}
    source = trained if step.accepts == "checkpoint" else bundles[step.accepts]
    assert source is not None
    with lock.new_folder(out):
        remove_drafts(out)
        if isinstance(part, Calibrator):
            assert isinstance(source, Bundle)
            return part.calibrate(source, out, options, progress)
        return part.export(source, out, options)


def export(
    source: Path | str, wish: str, out: Path, wishes: Wishes | None = None, chosen: Mapping[str, Any] | None = None
) -> Bundle:
    """One format from a checkpoint, from a bundle that the format's exporter accepts, or from a user's own model (by
    `wishes`), to the folder `out`. chosen: options of the last step, by name."""
    own = intake.is_own(str(source))
    if not own and wishes not in (None, Wishes()):
        raise EdgekitError(f"--state, --chunk and the like are for a model of your own, but {source} is edgekit's")
    source = Path(source)
    if not own and (source / MANIFEST).exists():
        parent = open_bundle(source)
        fits = [s for s in all_steps() if s.accepts == parent.label and wish in (s.label, *_short(s.label))]
        if not fits:
            ways = {s.label for s in all_steps() if s.accepts == parent.label}
            raise no_such(f"way from {parent.label} to", wish, ways)
        return make(fits[0], None, {parent.label: parent}, out, chosen=chosen)
    steps = route(wish)
    trained = intake.read(str(source), wishes or Wishes()) if own else load_trained(source)
    bundles: dict[str, Bundle] = {}
    for step in steps:
        beside = out.parent / f"{out.name}.{step.label.replace(':', '-')}"
        last = step is steps[-1]
        bundles[step.label] = make(step, trained, bundles, out if last else beside, chosen=chosen if last else None)
    return bundles[steps[-1].label]


def _short(label: str) -> tuple[str, str]:
    """`openvino-spike` and `openvino` of `openvino-spike:int8`: enough where the parent decides the rest."""
    head = label.partition(":")[0]
    return head, head.partition("-")[0]


def calibrate(source: Path, method: str, out: Path, options: Mapping[str, Any] | None = None, progress: Progress = silent) -> Bundle:
    """A quantised bundle from a float one; `options` in place of the method's own."""
    part, parent = registry.find(Calibrator, method), open_bundle(source)
    if parent.label not in part.accepts:
        raise EdgekitError(f"calibrator '{method}' takes {', '.join(part.accepts)}, but {source} holds {parent.label}")
    unknown = set(options or {}) - set(part.options)
    if unknown:
        raise no_such(f"option of {method}", sorted(unknown)[0], part.options)
    with lock.new_folder(out):
        return part.calibrate(parent, out, {**part.options, **(options or {})}, progress)


def load_trained(checkpoint: Path) -> Trained:
    """The trained model of a checkpoint folder, or the one to deploy of a whole run."""
    sniff.refuse_file(checkpoint)
    told = checkpoint / "train" / "result.json"
    if told.is_file():
        data = parse_json(sniff.read_plain(told, limits.MOST_TEXT_BYTES, "the result of a training"), str(told), AGAIN)
        chosen = data.get("deploy") if isinstance(data, dict) else None
        if not isinstance(chosen, str) or chosen != Path(chosen).name or not sniff.is_there(checkpoint / "train" / chosen):
            raise Broken(f"{told} does not say which checkpoint to deploy; {AGAIN}")
        checkpoint = checkpoint / "train" / chosen
    family = str(open_checkpoint(checkpoint).facts.get("family"))
    part = registry.find(Family, family)
    try:
        return part.load(checkpoint)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:  # of facts that the family did not write
        raise Broken(f"{checkpoint} is no checkpoint of '{family}' ({type(error).__name__}: {one_line(error, 200)}); train again") from None


def usual_formats(source: str, calibrated: bool) -> tuple[str, ...]:
    """What a checkpoint, a run or a model of one's own is deployed to when nothing is said; NIR and Lava only what can be said in them."""
    if intake.is_own(source):
        return (*OWN_FORMATS, *(OWN_QUANTISED if calibrated else ()))
    try:
        load_trained(Path(source)).spiking_net()
    except EdgekitError:
        return OWN_FORMATS
    return DEFAULT_FORMATS


def run_folder_of(source: Path) -> Path:
    """The run folder that a checkpoint lies in: runs/x for runs/x/train/t1 and for runs/x itself."""
    return source.parent.parent if source.parent.name == "train" else source


def is_first_process() -> bool:
    """False in the other processes of a distributed training, which have nothing to print."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))


def deploy_formats(recipe: Path | str) -> tuple[str, ...]:
    """What the recipe's `[deploy] formats = [...]` asks for, else the default formats."""
    table = recipes.read(recipe).values.get("deploy", {})
    if not isinstance(table, dict) or set(table) - {"formats"}:
        raise EdgekitError(f"{recipe}: [deploy] knows one key: formats, a list such as {list(DEFAULT_FORMATS)}")
    formats = tuple(table.get("formats", DEFAULT_FORMATS))
    for wish in formats:
        route(wish)
    return formats


def check_ready(formats: Sequence[str], allow_missing: bool = False) -> dict[str, str]:
    """Before any work: every part on the way can work here. {runtime: why not} of those that are let go."""
    steps = dict.fromkeys(step for wish in formats for step in route(wish))
    for step in steps:
        registry.find(step.kind, step.part)
    lacking = {}
    for name in dict.fromkeys(n for s in steps for n in runtimes_of(s.label.split(":")[0])):
        part = registry.load(Runtime, name)
        absent = registry.missing(part)
        reason = f"needs {', '.join(absent)}: {registry.install_hint(part)}" if absent else part.ready()
        if reason:
            lacking[name] = reason
    if lacking and not allow_missing:
        told = "; ".join(f"runtime '{n}' is not ready: {r}" for n, r in lacking.items())
        raise Missing(f"{told}. Or go on without it: --allow-missing, or fewer --formats")
    return lacking


def require_all(bundles: Sequence[Bundle], out: Path) -> None:
    """Raise NotEqual when a stored verification failed (bundle, engine, difference), EdgekitError when a format was refused."""
    told = []
    for bundle in bundles:
        for name in runtimes_of(bundle.manifest.format):
            stored = bundle.read_evidence(f"verify-{name}")
            if stored and stored["failures"]:
                told.append(f"{bundle.label} on {name}: {stored['failures'][0]}")
    if told:
        raise NotEqual(f"not the trained network's answers, so not timed: {'; '.join(told)}")
    refused = refused_formats(out)
    if refused:
        made = ", ".join(b.label for b in bundles) or "none"
        why = "; ".join(f"{label}: {reason}" for label, reason in refused.items())
        raise EdgekitError(f"not every format could be made ({why}); there are: {made}")


def write_report(out: Path) -> Run:
    """report.json, report.md, trace.json and page.html in `out/report`, from what the run folder holds."""
    found = read_run(out)
    report.write(found, out / "report", read_samples(out))
    return found
