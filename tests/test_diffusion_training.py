"""What teachers, students and tuned students learn: each loss against a case whose answer is known without it."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.models._diffusion import distil, preference
from edgekit.models._diffusion.data import Pictures, Split
from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.plans import Sampling
from edgekit.models._diffusion.sampler import sample
from edgekit.models._diffusion.schedule import noised
from edgekit.models._diffusion.training import Learner, TeacherTask, dropped, guided, stratified, turned
from edgekit.noise import draw

SIZES = (3,)
POINT = 0.25  # the one grey value that every pixel of every picture has


class Knows(nn.Module):
    """The exact v where every picture is `centre` everywhere: x0 is known whatever x is, v = (a x - x0) / b."""

    def __init__(self, centre: float = POINT, jumps: bool = False) -> None:
        super().__init__()
        self.channels, self.size, self.heads, self.jumps = 1, 8, SIZES, jumps
        self.centre = nn.Parameter(torch.tensor(centre))

    def forward(self, x, levels, condition, jump=None):
        angle = levels[..., None, None] * (math.pi / 2000)
        return (angle.cos() * x - self.centre) / angle.sin().clamp(min=1e-6)


def pictures(count: int = 12) -> Pictures:
    return Pictures(np.full((count, 1, 8, 8), POINT, np.float32), np.arange(count)[:, None] % 3, ("kind",), (("a", "b", "c"),))


def split() -> Split:
    return Split("made", pictures(), pictures(6), pictures(6))


def batch_of(task, batch_size: int = 12, epoch: int = 1):
    return next(iter(task.batches("train", epoch, 0, batch_size)))


def unet(jumps: bool = False) -> UNet:
    torch.manual_seed(3)
    net = UNet(1, 8, SIZES, width=8, jumps=jumps)
    nn.init.normal_(net.last.weight, std=0.1)
    return net


def no_quality(_) -> float:
    return 0.0


# ---- levels, conditions, steps


def test_stratified_numbers_fall_one_in_each_part():
    found = stratified(50, np.random.default_rng(0))
    assert sorted(int(v * 50) for v in found) == list(range(50)) and len(set(found.tolist())) == 50


def test_a_tenth_of_the_rows_loses_all_of_its_conditions():
    given = np.zeros((20_000, 2), np.int64)
    found = dropped(given, (3, 5), np.random.default_rng(1))
    lost = (found == [3, 5]).all(1)
    assert 0.09 < lost.mean() < 0.11 and (found[~lost] == 0).all()


def test_a_ddim_step_of_the_training_is_that_of_the_sampler():
    net = unet()
    condition = torch.tensor([[0], [2]])
    x = torch.from_numpy(draw("normal", (2, 1, 8, 8), 5, 0))
    levels = [1000.0, 500.0, 0.0]
    with torch.no_grad():
        for high, low in zip(levels[:-1], levels[1:], strict=True):
            h, lo = torch.full((2, 1), high), torch.full((2, 1), low)
            x = turned(x, net(x, h, condition), h, lo)
    assert (x - sample(net, Sampling(2), condition, 5)).abs().max() < 1e-5


def test_guidance_leaves_rows_without_a_condition_as_they_are():
    net = unet().eval()
    x, levels = torch.randn(4, 1, 8, 8), torch.full((4, 1), 400.0)
    condition = torch.tensor([[0], [3], [1], [3]])
    with torch.no_grad():
        plain, twice = net(x, levels, condition), guided(net, x, levels, condition, 2.0)
        none = net(x, levels, torch.full((4, 1), 3))
    assert torch.allclose(twice, none + 2 * (plain - none), atol=1e-6)
    assert torch.allclose(twice[[1, 3]], plain[[1, 3]], atol=1e-6) and not torch.allclose(twice[[0, 2]], plain[[0, 2]], atol=1e-4)


def test_the_teacher_that_knows_the_picture_has_nothing_to_learn():
    task = TeacherTask(split(), SIZES)
    assert task.loss(Knows(), batch_of(task)) < 1e-8
    assert task.loss(Knows(POINT + 0.1), batch_of(task)) > 1e-3


def test_training_batches_follow_from_epoch_and_seed_and_validation_never_changes():
    task = TeacherTask(split(), SIZES)
    one, again, other = batch_of(task), batch_of(task), batch_of(task, epoch=2)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True)) and not torch.equal(one[3], other[3])
    first, second = (list(task.batches("validation", e, 0, 4)) for e in (1, 9))
    assert all(torch.equal(a, b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True))


# ---- students


def exact(task_of, jumps: bool = False):
    """A task and a student, both of a teacher that knows the picture."""
    student = distil.WithTarget(Knows(jumps=jumps))
    return task_of(split(), Knows(), 1.0, no_quality), student


@pytest.mark.parametrize(("task_of", "jumps"), [(distil.ConsistencyTask, False), (distil.ShortcutTask, True)])
def test_a_student_that_is_right_has_nothing_to_learn_and_a_wrong_one_is_pulled_there(task_of, jumps):
    task, student = exact(task_of, jumps)
    for turn, batch in enumerate(task.batches("train", 1, 0, 4)):
        assert task.loss(student, batch) < 1e-4, turn  # huber is 0 at 0; what is left is float32 near level 0
    wrong = distil.WithTarget(Knows(POINT + 0.2, jumps))
    wrong.target = Knows(jumps=jumps).requires_grad_(False)  # whose target is right
    batch = batch_of(task)
    loss = task.loss(wrong, batch)
    loss.backward()
    assert loss > 0.05 and wrong.net.centre.grad > 0, "the centre must come down"


def test_the_target_follows_by_a_hundredth_and_learns_nothing():
    student = distil.WithTarget(Knows(0.0))
    with torch.no_grad():
        student.net.centre += 1.0
    student.follow()
    assert student.target.centre.item() == pytest.approx(0.01)
    student.follow()
    assert student.target.centre.item() == pytest.approx(0.01 + 0.99 * 0.01)
    assert [n for n, p in student.named_parameters() if p.requires_grad] == ["net.centre"]


def test_a_network_with_jumps_answers_at_first_as_the_one_without():
    net = unet().eval()
    more = distil.with_jumps(net).eval()
    x, levels, condition = torch.randn(3, 1, 8, 8), torch.tensor([[900.0], [500.0], [10.0]]), torch.tensor([[0], [1], [3]])
    with torch.no_grad():
        assert torch.equal(net(x, levels, condition), more(x, levels, condition, torch.tensor([[1000.0], [31.25], [250.0]])))


def test_the_implied_picture_of_a_step_is_the_picture_behind_it():
    x0, eps = torch.rand(5, 1, 8, 8) - 0.5, torch.randn(5, 1, 8, 8)
    levels = torch.tensor([[1000.0], [750.0], [500.0], [125.0], [62.5]])
    lengths = torch.tensor([[1000.0], [250.0], [31.25], [125.0], [31.25]])
    x, end = noised(x0, eps, levels), noised(x0, eps, levels - lengths)
    assert (distil.implied(x, end, levels, lengths) - x0).abs().max() < 1e-4


def test_distribution_matching_trains_the_follower_twice_and_then_the_student():
    torch.manual_seed(0)
    teacher = unet()
    module = distil.Matched(copy.deepcopy(teacher), teacher)
    task = distil.MatchingTask(split(), teacher, 1.0, no_quality, 2)
    learned = []
    for batch in task.batches("train", 1, 0, 2):  # six batches
        module.zero_grad()
        task.loss(module, batch).backward()
        learned.append("".join(part[0] for part in ("net", "fake") if any(p.grad is not None for p in getattr(module, part).parameters())))
    assert learned == ["f", "f", "n", "f", "f", "n"]


def test_distribution_matching_moves_the_student_to_where_the_teachers_pictures_are():
    """Student and follower draw the grey 0, the teacher 0.25: the student's centre must rise; the other way round it must fall."""
    for centre, rises in ((POINT, True), (-POINT, False)):
        module = distil.Matched(Knows(0.0), Knows(0.0))
        task = distil.MatchingTask(split(), Knows(centre), 1.0, no_quality, 1)
        batch = list(task.batches("train", 1, 0, 4))[2]  # the student's turn
        task.loss(module, batch).backward()
        assert (module.net.centre.grad < 0) == rises


# ---- preference


def online(reward, **more):
    learner = Learner(unet())
    task = preference.OnlineTask(learner, pictures().conditions, reward, no_quality, pairs=8, steps=4, beta=50.0, **more)
    return learner, task


def ink(images):
    return images.mean((1, 2, 3))


def test_both_losses_are_exactly_log_two_at_the_start():
    learner, task = online(ink)
    for batch in task.batches("train", 1, 0, 8):
        assert task.loss(learner, batch).item() == pytest.approx(math.log(2), abs=1e-7)
    made = np.random.default_rng(0).uniform(-1, 1, (12, 1, 8, 8)).astype(np.float32)
    offline = preference.OfflineTask(learner, pictures(), made, no_quality, steps=4, beta=20.0)
    assert offline.loss(learner, batch_of(offline)).item() == pytest.approx(math.log(2), abs=1e-7)


def test_differences_of_log_densities_are_those_of_the_normal_distribution():
    net = unet().eval()
    x, levels, lower = torch.randn(4, 1, 8, 8), torch.full((4, 1), 750.0), torch.full((4, 1), 500.0)
    condition = torch.tensor([[0], [1], [2], [3]])
    one, two = torch.randn(4, 1, 8, 8), torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        ours = preference.log_density(net, x, one, levels, lower, condition) - preference.log_density(net, x, two, levels, lower, condition)
        angle = torch.tensor(500.0 * math.pi / 2000)
        high = torch.tensor(750.0 * math.pi / 2000)
        mean = angle.cos() * (high.cos() * x - high.sin() * net(x, levels, condition)).clamp(-1, 1)
        law = torch.distributions.Normal(mean, angle.sin())
        theirs = (law.log_prob(one) - law.log_prob(two)).flatten(1).mean(1)
    assert (ours - theirs).abs().max() < 1e-4


def test_the_better_of_two_is_what_the_black_box_likes_and_a_tie_goes_to_the_second():
    _, task = online(ink)
    seen = []

    def spy(images):
        seen.append(images)
        return ink(images)

    task.reward = spy
    list(task.batches("train", 1, 0, 8))
    first, second = (ink(i) for i in seen)
    transitions = list(task.batches("train", 1, 0, 8))
    assert len(transitions) == 3, "four calls have three steps that draw"
    start = {float(level[0]): row for batch in transitions for level, row in zip(batch[1], zip(*batch, strict=True), strict=True)}
    assert set(start) == {1000.0, 750.0, 500.0}
    rng = np.random.default_rng((0, 1))
    rng.choice(12, 8)
    noise = rng.standard_normal((8, 1, 8, 8), np.float32)  # of the first trajectories
    better_is_first = torch.stack([
        (torch.from_numpy(noise)[i] == x).all() for batch in transitions for i, (level, x) in enumerate(zip(batch[1], batch[3], strict=True)) if level == 1000
    ])  # fmt: skip
    places = [i for batch in transitions for i, level in enumerate(batch[1]) if level == 1000]
    assert sorted(places) == list(range(8))
    assert better_is_first.tolist() == [bool(first[i] > second[i]) for i in places]
    task.reward = lambda images: np.zeros(len(images))
    tied = [b for b in task.batches("train", 1, 0, 8)]
    firsts = [bool((torch.from_numpy(noise)[i] == b[3][i]).all()) for b in tied for i in range(8) if b[1][i] == 1000]
    assert not any(firsts)


def test_what_leaves_the_trust_region_learns_nothing():
    new = torch.tensor([0.5, 0.0], requires_grad=True)  # exp(0.5) is beyond 1.1
    preference.pair_loss(new, torch.zeros(2), torch.zeros(2), torch.zeros(2), 50.0).backward()
    assert new.grad[0] == 0 and new.grad[1] < 0


def test_offline_tuning_raises_the_targets_against_the_students_own():
    """Targets are the grey 0.25, own pictures -0.25, the student says 0: the gradient must move it up; naive tuning does so too."""
    made = np.full((12, 1, 8, 8), -POINT, np.float32)
    for kind in (preference.OfflineTask, preference.NaiveTask):
        learner = Learner(Knows(0.0))
        task = kind(learner, pictures(), made, no_quality, steps=4, beta=20.0)
        task.loss(learner, batch_of(task)).backward()
        assert learner.net.centre.grad < 0
