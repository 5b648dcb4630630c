"""A time-step policy as the exporters see it: a stream of states to actions, or the one-timestep spiking policy of codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from edgekit.bundle import Allowed, Golden, GoldenNote, Model
from edgekit.checkpoint import Checkpoint
from edgekit.errors import EdgekitError
from edgekit.models._time_stepping_evaluate import play
from edgekit.models._time_stepping_integers import CONSTANTS
from edgekit.models._time_stepping_net import CODES, PAIR_FEATURES, STATE, Pairs, Policy, deployed, raw
from edgekit.models._time_stepping_options import EVALUATION_SEEDS, Options, build, options_of, rules_of
from edgekit.models._time_stepping_spiking import SpikingPolicy
from edgekit.parts import Trained
from edgekit.program import ArgMax, Feed, Join, Phase, Program, Stream, once, value
from edgekit.signature import Signature, Tensor
from edgekit.spiking_net import SpikingNet

GOLDEN_SYSTEMS, GOLDEN_PUSHES = 64, 16  # many: INT8 differs in few states, and those shall be among them
CLEAR = 0.95  # quantile of the margin between the two best values from which a golden decision counts as clear, in bfloat16 too
EDGE = 0.02  # of a code: nearer than this to the edge between two levels, rounding may decide about it
STEP_EDGE = 1e-6  # of a current: nearer than this to the edge between two steps, the order of float32 sums may decide
NEAR = 1e-6  # |u/V - 1| below which rounding decides about a spike


class TrainedPolicy(Trained):
    """A float policy: `state` (batch, intervals, 13), one interval a push -> `action`, and the `values` behind it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.options = options_of(checkpoint.facts["recipe"])
        self.policy = deployed(policy_of(checkpoint))
        self.name, self.sha256 = str(checkpoint.facts["name"]), checkpoint.sha256
        self.model = model_of(checkpoint, "systems_as_efficient", None)
        actions = self.options.environment.actions
        meaning = "x1 y1 x2 y2 x3 y3, vx1 vy1 ... (N-body units), relative energy error"
        scores = "what each action adds to the value of the state; the largest is chosen"
        self.signature = Signature(
            (Tensor("state", "float32", ("batch", "intervals", STATE), meaning),),
            (Tensor("action", "int64", ("batch", "intervals"), "place in the list of time-step parameters"),
             Tensor("values", "float32", ("batch", "intervals", actions), scores)),
        )  # fmt: skip
        self.graphs = {"main": Signature((Tensor("state", "float32", ("batch", STATE), meaning),),
                                         (Tensor("values", "float32", ("batch", actions), scores),))}  # fmt: skip
        phase = Phase(inputs={"state": value("state")}, outputs={"values": "values"}, epilogue=(ArgMax(value("values"), 1, "action"),))
        joins = {"action": Join("stack", 1), "values": Join("stack", 1)}
        self.program = Program((Stream({"state": Feed(1)}, (phase,), joins),))
        # 1e-3: values are logarithms of a cost, about -2; golden states keep away from where rounding decides (clear_states). The
        # score may differ by what a few codes that round the other way in another engine do in whole episodes.
        self.allowed = Allowed(output_max_abs={"values": 1e-3}, score_drop=0.01)
        self.golden_note = GoldenNote(f"torch {torch.__version__}, eager", "visited states of evaluation systems, clear decisions")

    def module(self, graph: str = "main") -> torch.nn.Module:
        return self.policy

    def goldens(self) -> list[Golden]:
        states = clear_states(self.policy, visited(self.policy, self.options), GOLDEN_SYSTEMS * GOLDEN_PUSHES + 3)
        whole = states[: GOLDEN_SYSTEMS * GOLDEN_PUSHES].reshape(GOLDEN_SYSTEMS, GOLDEN_PUSHES, STATE)
        return [self.answers(whole), self.answers(states[None, -3:])]

    def answers(self, states: np.ndarray) -> Golden:
        """The eager answers to raw float32 (batch, intervals, 13)."""
        with torch.no_grad():
            values = self.policy(torch.from_numpy(states.reshape(-1, STATE))).numpy()
        values = values.reshape(*states.shape[:2], -1)
        return Golden({"state": states}, {"action": values.argmax(2), "values": values})


class TrainedSpiking(Trained):
    """A spiking policy: uint8 `codes` (batch, 14), the documented features and constants -> `logits`, whose largest is the action."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.options = options_of(checkpoint.facts["recipe"])
        n = self.options.network
        self.net = SpikingPolicy(len(PAIR_FEATURES) + CONSTANTS, n.width, n.layers, n.levels, self.options.environment.actions)
        self.net.load_state_dict(checkpoint.state())
        self.net.eval()
        self.name, self.sha256 = str(checkpoint.facts["name"]), checkpoint.sha256
        self.model = model_of(checkpoint, "decisions_as_good", 1)
        codes = Tensor("codes", "uint8", ("batch", len(PAIR_FEATURES) + CONSTANTS),
                       f"8-bit codes of the {len(PAIR_FEATURES)} features of three bodies, then {CONSTANTS} times {CODES}")  # fmt: skip
        logits = Tensor("logits", "float32", ("batch", self.options.environment.actions), "the largest is the action")
        self.signature = Signature((codes,), (logits,))
        self.graphs, self.program = {"main": self.signature}, once(("codes",), ("logits",))
        self.probes = {"main": self.net.names}
        self.allowed = Allowed(output_max_abs={"logits": 1e-4}, near_threshold=NEAR, score_drop=0.003)
        self.golden_note = GoldenNote(f"torch {torch.__version__}, eager", "codes of visited states of evaluation systems")

    def module(self, graph: str = "main") -> torch.nn.Module:
        return self.net

    def spiking_net(self) -> SpikingNet:
        return self.net.plain()

    def goldens(self) -> list[Golden]:
        states = visited(None, self.options)
        codes = codes_of(states[:: max(1, len(states) // 64)][:64])
        with torch.no_grad():
            logits, *spikes = (t.numpy() for t in self.net(torch.from_numpy(codes)))
            far = self.net.distances(torch.from_numpy(codes))
        names = self.net.names
        near = {n: np.flatnonzero(d.numpy() < NEAR).astype(np.int64) for n, d in zip(names, far, strict=True)}
        probes = {n: s.astype(np.uint8) for n, s in zip(names, spikes, strict=True)}
        return [Golden({"codes": codes}, {"logits": logits}, probes, near)]


def model_of(checkpoint: Checkpoint, score_name: str, steps: int | None) -> Model:
    """What a bundle remembers of the checkpoint."""
    facts = checkpoint.facts
    return Model("time_stepping", facts["recipe"], checkpoint.sha256, score_name, facts["score"], facts["score_samples"], steps)


def policy_of(checkpoint: Checkpoint) -> Policy:
    """The float policy of a checkpoint."""
    if checkpoint.facts["form"] != "policy":
        raise EdgekitError(f"{checkpoint.folder} holds the {checkpoint.facts['form']} policy; give the folder `policy`")
    policy = build(options_of(checkpoint.facts["recipe"]))
    policy.load_state_dict(checkpoint.state())
    return policy.eval()


def decider(policy: Policy) -> Any:
    """The greedy decisions of a policy on raw states."""

    def decide(state: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(policy(raw(state)).argmax(1).numpy())

    return decide


def codes_of(states: np.ndarray) -> np.ndarray:
    """uint8 (n, 11 + CONSTANTS): the integer-coded features of raw states, as the encoder inside the float policy makes them, and the
    constant inputs of the spiking policy, whose code is always the greatest."""
    with torch.no_grad():
        codes = np.asarray(Pairs().codes(raw(states)).numpy().astype(np.uint8))
    return np.pad(codes, ((0, 0), (0, CONSTANTS)), constant_values=CODES)


def visited(policy: Policy | None, options: Options, seeds: tuple[int, int] = (EVALUATION_SEEDS[0], EVALUATION_SEEDS[0] + 50)) -> np.ndarray:
    """Raw float32 states (n, 13) that a policy decides on in whole episodes; without one, those of a middle parameter."""
    middle = options.environment.actions // 2
    decide = decider(policy) if policy else lambda state: np.full(len(state), middle)
    found = play(decide, rules_of(options), range(*seeds), options.evaluation.steps, keep=True).visited()
    return found.astype(np.float32)


def clear_states(policy: Policy, states: np.ndarray, count: int) -> np.ndarray:
    """`count` of the states, evenly spread, on which any engine must decide alike: the best value stands clear of the second, also
    where the state is given in bfloat16, no feature stands on the edge between two codes, and no current on that between two steps."""
    x = torch.from_numpy(states)
    with torch.no_grad():
        best = policy(x).topk(2, 1).values
        margin = (best[:, 0] - best[:, 1]).numpy()
        coarse = policy(x.to(torch.bfloat16).to(torch.float32)).argmax(1) == policy(x).argmax(1)
        clear = (margin >= np.quantile(margin, CLEAR)) & (coarse & (policy.off_step(x) > STEP_EDGE)).numpy()
        if isinstance(policy.encoder, Pairs):
            clear &= (policy.encoder.off_edge(x) > EDGE).numpy()
    chosen = states[clear]
    return np.asarray(chosen[np.linspace(0, len(chosen) - 1, count).astype(int)])
