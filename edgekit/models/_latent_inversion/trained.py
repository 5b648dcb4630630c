"""What the exporters are told of prepared edits, and how their answers are scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from edgekit.bundle import Allowed, Golden, GoldenNote, Model, TaskProgram
from edgekit.checkpoint import Checkpoint
from edgekit.errors import EdgekitError
from edgekit.models._diffusion.data import pictures
from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.yardstick import cached
from edgekit.models._latent_inversion import deploy
from edgekit.models._latent_inversion.deploy import (
    EDIT,
    IMAGE,
    INVERT,
    LATENT,
    OFFSETS,
    OWN,
    RESTORED,
    SWITCH,
    Edits,
    Way,
)
from edgekit.models._latent_inversion.edits import Asked, accepted, held_out, own
from edgekit.models._latent_inversion_options import Options, options_of
from edgekit.parts import Arrays, Score, Trained

SCORE = "edits accepted"
SCORE_DROP = 0.03  # of some fifty edits one may come out otherwise
GOLDEN_EDITS = (8, 3)  # of the golden answers: two sizes of the batch
SAMPLED = 10  # validation edits that lie prepared behind the held-out ones, for calibrators


class TrainedEdits(Trained):
    """A checkpoint with prepared edits, and the four programs over its network."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """EdgekitError for a network that was only compared."""
        facts = checkpoint.facts
        if facts["form"] == "trained":
            said = f"is the network of seed {facts['seed']}, without edits"
            raise EdgekitError(f"{checkpoint.folder} {said}; give the folder 'edit' or 'own' beside it")
        self.net, self.edits, self.way = restored(checkpoint)
        self.name, self.sha256 = str(facts["name"]), checkpoint.sha256
        (self.task_name, (self.signature, self.program)), *others = deploy.programs(self.net, self.edits, self.way).items()
        self.graphs = deploy.signatures(self.net, self.edits, self.way)
        self.tensors = deploy.tensors(self.edits, self.way)
        self.options = options_of(facts["recipe"])
        self.model = Model(str(facts["family"]), facts["recipe"], self.sha256, SCORE, facts["score"], facts["scored"])
        self.allowed = Allowed(output_max_abs={IMAGE: deploy.ALLOWED_MAX_ABS}, score_drop=SCORE_DROP)
        self.tasks = {name: TaskProgram(s, p, Allowed(output_max_abs={t.name: deploy.ALLOWED_MAX_ABS for t in s.outputs})) for name, (s, p) in others}
        self.golden_note = GoldenNote(f"torch {torch.__version__}, eager", "prepared edits")

    def module(self, graph: str = "main") -> torch.nn.Module:
        return deploy.module(self.net, graph)

    def traced_sizes(self) -> Mapping[str, int]:
        """A size that no other size of the graphs equals."""
        taken = {len(self.edits.names), self.way.steps, *self.net.heads, self.net.size, self.net.channels}
        return {"batch": next(n for n in range(5, 100) if n not in taken)}

    def goldens(self) -> list[Golden]:
        """Edits of two batches, with the switch at several calls."""
        return self._goldens(OWN)

    def task_goldens(self) -> Mapping[str, list[Golden]]:
        """Of the other tasks: the same edits, and their pictures inverted anew."""
        return {task: self._goldens(task) for task in self.tasks}

    def _goldens(self, task: str) -> list[Golden]:
        return deploy.goldens(self.net, self.edits, self.way, task, [self._inputs(task, count) for count in GOLDEN_EDITS])

    def _inputs(self, task: str, count: int) -> dict[str, np.ndarray]:
        """Of the first edits; on the device their sources are inverted with the text that the network learned for them."""
        count = min(count, len(self.edits.names))
        switch = np.linspace(0, self.way.steps, count).round().astype(np.int64)[:, None]
        rows = np.arange(count)
        if task in (OWN, RESTORED):
            return {EDIT: rows[:, None]} | ({SWITCH: switch} if task == OWN else {})
        asked = asked_of(self.options).first(count)
        given = {IMAGE: asked.images, "condition": asked.shows}
        if task == INVERT:
            return given
        ends = deploy.answered(self.net, self.edits, self.way, INVERT, given)
        return {**ends, "condition": asked.shows, "wanted": asked.wanted, SWITCH: switch}


def restored(checkpoint: Checkpoint) -> tuple[UNet, Edits, Way]:
    """What a checkpoint with prepared edits holds."""
    facts, state = checkpoint.facts, checkpoint.state()
    net = UNet(facts["channels"], facts["size"], tuple(facts["heads"]), width=facts["width"], jumps=facts["jumps"])
    net.load_state_dict({n.removeprefix("net."): t for n, t in state.items() if n.startswith("net.")})
    latents, offsets, sources, targets = (state[n] for n in ("latents", "offsets", "sources", "targets"))
    edits = Edits(latents, offsets, sources, targets, tuple(facts["names"]), tuple(tuple(w) for w in facts["words"]))
    return net.eval().requires_grad_(False), edits, Way(**facts["way"])


def asked_of(options: Options) -> Asked:
    """The edits that lie in the bundle: those of the user's own picture, or the first held-out ones."""
    split = pictures(options.data.name)
    if options.edit.picture:
        return own(options.edit, options.edits.heads, split, cached(split.name).net)
    return held_out(split.test, options.edits.heads, options.edits.test).first(options.edits.deployed)


def edit_score(model: Model, run: Callable[[Arrays], Arrays], limit: int | None) -> Score:
    """The share of the prepared edits that an independent classifier accepts, with the switch where validation put it."""
    options = options_of(model.recipe)
    asked = asked_of(options)
    asked = asked.first(limit) if limit else asked
    images = run(edits_at(np.arange(len(asked)), options))[IMAGE]
    return Score(SCORE, float(accepted(cached(options.data.name).net, images, asked).mean()), len(asked))


def edits_at(rows: np.ndarray, options: Options) -> dict[str, np.ndarray]:
    """Inputs of the own program: these edits, with the switch of the recipe as deployed."""
    return {EDIT: rows[:, None].astype(np.int64), SWITCH: np.full((len(rows), 1), switch_of(options), np.int64)}


def switch_of(options: Options) -> int:
    """The call from which on the target's text is given; of a recipe whose choices are made."""
    return round(options.inversion.switch[0] * options.inversion.steps)


def samples(model: Model, limit: int) -> dict[str, np.ndarray]:
    """Prepared edits of validation pictures; of a picture of the user's own its edits."""
    options = options_of(model.recipe)
    count = len(asked_of(options))
    rows = np.arange(count) if options.edit.picture else count + np.arange(SAMPLED)
    return edits_at(rows[:limit], options)


def shown(model: Model, limit: int) -> dict[str, np.ndarray]:
    """The prepared edits that are scored, the first ones."""
    options = options_of(model.recipe)
    return edits_at(np.arange(len(asked_of(options)))[:limit], options)


def task_samples(model: Model, task: str, limit: int) -> dict[str, np.ndarray]:
    """Inputs of another task, of validation pictures."""
    options = options_of(model.recipe)
    if task == RESTORED:
        return {EDIT: samples(model, limit)[EDIT]}
    asked = held_out(pictures(options.data.name).validation, options.edits.heads, options.edits.validation).first(limit)
    if task == INVERT:
        return {IMAGE: asked.images, "condition": asked.shows}
    # No network is at hand that would invert them: their noisy ends are as good as noise, and offsets are small.
    latent = np.random.default_rng(0).standard_normal(asked.images.shape, np.float32)
    offsets = np.zeros((options.inversion.steps, *latent.shape), np.float32)
    switch = np.full((len(asked), 1), switch_of(options), np.int64)
    return {LATENT: latent, OFFSETS: offsets, "condition": asked.shows, "wanted": asked.wanted, SWITCH: switch}
