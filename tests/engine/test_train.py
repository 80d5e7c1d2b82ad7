"""An ensemble's member is the same run as a model trained alone by a plain loop."""

from __future__ import annotations

import math
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from initstudy.engine.autograd import OneByOne, Vmap, not_vectorizable
from initstudy.engine.batched.engine import Batched
from initstudy.engine.choose import ENGINES, choose_engine
from initstudy.engine.optimizers import SGD, Adam
from initstudy.engine.schedule import Schedule
from initstudy.engine.stack import Stack
from initstudy.engine.train import Row, Summary, train
from initstudy.engine.workload import Workload
from initstudy.probes.layers import find_layers
from initstudy.probes.statistics import Probes

STEPS, BATCH, LR, MOMENTUM = 30, 16, 0.05, 0.9
STDS = (0.02, 0.1, 0.3, 0.6)
# The engines to choose from; of all, the MLP gets the compiled one and the CNN the batched one.
CHOICES = {
    "chosen": ENGINES,
    "batched": (Batched,),
    "vmap": (Vmap,),
    "one-by-one": (OneByOne,),
}


def mlp():
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(36, 24),
            act1=nn.ReLU(),
            fc2=nn.Linear(24, 24),
            act2=nn.ReLU(),
            head=nn.Linear(24, 4),
        )
    )


def cnn(batch_norm=True):
    norm = nn.BatchNorm2d(6) if batch_norm else nn.Identity()
    return nn.Sequential(
        OrderedDict(
            # A bias before a BatchNorm has no gradient but rounding, which Adam would amplify.
            conv1=nn.Conv2d(1, 6, 3, padding=1, bias=not batch_norm),
            norm1=norm,
            act1=nn.Tanh(),
            pool=nn.AvgPool2d(2),
            flatten=nn.Flatten(),
            head=nn.Linear(6 * 9, 4),
        )
    )


def problem(members, seed=0):
    """Batches of a task that can be learned, other ones for each member."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(STEPS + 1, members, BATCH, 1, 6, 6, generator=generator)
    y = x.flatten(3)[..., :4].argmax(-1)

    def batches(step, members=slice(None)):
        return x[step][members], y[step][members]

    return batches


def draws(make, stds, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = {name: torch.randn(p.shape, generator=generator) for name, p in make().named_parameters()}
    return [
        {n: v * std if v.dim() > 1 else torch.full_like(v, "norm" in n) for n, v in z.items()}
        for std in stds
    ]


def engine_of(make, members, x, optimizer, engines, layers=(), device="cpu"):
    """The first of some engines that takes a model, over its members."""
    stack = Stack(make(), members, device=device)
    made = optimizer(list(stack.params.values()))
    # A single member is no case for `vmap`; here it runs so all the same.
    workload = Workload(make(), x, max(2, len(members)), torch.device(device), type(made))
    return choose_engine(workload, engines).build(stack, made, layers)


def run(
    make,
    members,
    batches,
    *,
    optimizer=None,
    probes="off",
    engines=(Vmap,),
    steps=STEPS,
):
    x, y = batches(0)
    make_optimizer = optimizer or (lambda p: SGD(p, lr=LR, momentum=MOMENTUM))
    engine = engine_of(make, members, x[0], make_optimizer, engines, find_layers(make(), x[0]))
    test = lambda: iter([(x[0], y[0])])  # noqa: E731
    schedule = Schedule(steps, 1, steps, Probes(probes, 5))
    out = list(train(engine, batches, test, schedule))
    rows: list[list[Row]] = [[] for _ in members]
    for item in out:
        if isinstance(item, Row):
            rows[item.member].append(item)
    summaries = [item.values for item in out if isinstance(item, Summary)]
    return rows, summaries, engine.stack


def plain_loop(make, params, batches, member, optimizer=None):
    """An ordinary PyTorch loop: the oracle."""
    model = make()
    model.load_state_dict(params, strict=False)
    make_optimizer = optimizer or (lambda p: torch.optim.SGD(p, LR, MOMENTUM))
    optim = make_optimizer(model.parameters())
    losses = []
    for step in range(STEPS):
        x, y = batches(step)
        loss = F.cross_entropy(model(x[member]), y[member])
        optim.zero_grad()
        loss.backward()
        optim.step()
        losses.append(loss.item())
    model.eval()
    x, y = batches(0)
    with torch.no_grad():
        test_loss = F.cross_entropy(model(x[0]), y[0]).item()
    return losses, test_loss


def assert_as_plain_loop(make, members, batches, optimizer, rows, summaries):
    """Every member has the losses of an ordinary loop of its own."""
    for member, params in enumerate(members):
        losses, test_loss = plain_loop(make, params, batches, member, optimizer)
        # With a row at every step, row k holds the loss of the minibatch of update k.
        logged = [row.values["train/loss"] for row in rows[member][1:]]
        assert logged == pytest.approx(losses, rel=1e-4)
        assert summaries[member]["test/loss"] == pytest.approx(test_loss, rel=1e-4)
        assert losses[-1] != pytest.approx(losses[0], rel=1e-3)  # something was learned


@pytest.mark.parametrize("make", [mlp, cnn], ids=["mlp", "cnn-batchnorm"])
@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("adam", [False, True], ids=["sgd", "adam"])
def test_members_train_like_a_plain_loop(make, choice, adam):
    members, batches = draws(make, STDS), problem(len(STDS))
    ours = (lambda p: Adam(p, lr=0.003)) if adam else None
    theirs = (lambda p: torch.optim.Adam(p, 0.003)) if adam else None
    rows, summaries, _ = run(make, members, batches, optimizer=ours, engines=CHOICES[choice])
    assert_as_plain_loop(make, members, batches, theirs, rows, summaries)


@pytest.mark.parametrize("make", [mlp, cnn], ids=["mlp", "cnn-batchnorm"])
@pytest.mark.parametrize("choice", ["chosen", "batched", "vmap"])
def test_a_diverging_run_changes_no_bit_of_its_neighbours(make, choice):
    stds = (0.1, 1e12, 0.3)
    members, batches = draws(make, stds), problem(len(stds))
    if make is cnn:
        members[1]["head.weight"] *= 1e30
    with_it, summaries, _ = run(make, members, batches, probes="full", engines=CHOICES[choice])
    assert isinstance(summaries[1]["diverged_step"], int)
    calm = draws(make, (0.1, 0.2, 0.3))
    without_it, calm_summaries, _ = run(make, calm, batches, probes="full", engines=CHOICES[choice])
    for neighbour in (0, 2):
        assert [r.values for r in with_it[neighbour]] == [r.values for r in without_it[neighbour]]
        assert summaries[neighbour] == calm_summaries[neighbour]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_size_of_a_pack_changes_no_bit(size):
    members, batches = draws(mlp, (0.1,) * size), problem(5)
    rows, _, _ = run(
        mlp, members, lambda step, m=slice(None): tuple(t[:size][m] for t in batches(step))
    )
    alone, _, _ = run(
        mlp, members[:1], lambda step, m=slice(None): tuple(t[:1][m] for t in batches(step))
    )
    assert [r.values for r in rows[0]] == [r.values for r in alone[0]]


@pytest.mark.parametrize("choice", CHOICES)
def test_divergence_is_recorded_at_its_step_and_layer_and_the_run_is_frozen(choice):
    """A plain loop with a learning rate that blows up tells the step; the weights must stay."""
    members, batches = draws(mlp, (0.3, 0.3)), problem(2)
    rates = [0.05, 1e6]
    rates_of = {"optimizer": lambda p: SGD(p, lr=rates), "engines": CHOICES[choice]}
    rows, summaries, _ = run(mlp, members, batches, **rates_of)
    losses, _ = plain_loop(mlp, members[1], batches, 1, lambda p: torch.optim.SGD(p, lr=rates[1]))
    first = next(step for step, loss in enumerate(losses) if not math.isfinite(loss))
    assert summaries[1]["diverged_step"] == first
    assert summaries[1]["diverged_layer"] in {"fc1", "fc2", "head", "loss"}
    assert rows[1][-1].step == first
    assert not math.isfinite(rows[1][-1].values["train/loss"])
    assert rows[0][-1].step == STEPS
    # It is judged by the weights from before the step that was not finite: those that a plain loop
    # has after one step less.
    _, before, _ = run(mlp, members, batches, steps=first, **rates_of)
    assert summaries[1]["test/loss"] == pytest.approx(before[1]["test/loss"], nan_ok=True)
    assert not math.isfinite(summaries[1]["train/loss"])


@pytest.mark.parametrize("choice", CHOICES)
def test_a_probe_leaves_no_trace_in_running_statistics(choice):
    members, batches = draws(cnn, (0.1, 0.3)), problem(2)
    with_probes, without = (
        run(cnn, members, batches, probes=probes, engines=CHOICES[choice])[2]
        for probes in ("basic", "off")
    )
    for name, buffer in without.buffers.items():
        assert torch.equal(with_probes.buffers[name], buffer), name


@pytest.mark.parametrize("choice", CHOICES)
def test_divergence_names_the_layer_where_it_began(choice):
    members, batches = draws(mlp, (0.1, 0.1)), problem(2)
    members[1]["fc2.weight"][0, 0] = float("inf")
    _, summaries, _ = run(mlp, members, batches, engines=CHOICES[choice])
    assert (summaries[1]["diverged_step"], summaries[1]["diverged_layer"]) == (0, "fc2")
    assert (summaries[0]["diverged_step"], summaries[0]["diverged_layer"]) == (None, None)


def test_an_ensemble_whose_members_all_diverge_in_one_step_ends_there():
    members, batches = draws(mlp, (0.1, 0.1)), problem(2)
    for member in members:
        member["fc2.weight"][0, 0] = float("inf")
    rows, summaries, _ = run(mlp, members, batches)
    assert [s["diverged_step"] for s in summaries] == [0, 0]
    assert [[row.step for row in of_member] for of_member in rows] == [[0], [0]]


def test_evaluation_in_chunks_is_that_of_the_whole_test_set():
    members, batches = draws(cnn, (0.1, 0.5)), problem(2)
    x = torch.cat([batches(s)[0][0] for s in range(3)])[:41]
    y = torch.cat([batches(s)[1][0] for s in range(3)])[:41]
    results = []
    for size in (41, 7):
        out = list(
            train(
                engine_of(cnn, members, x[:2], lambda p: SGD(p, lr=LR), (Vmap,)),
                batches,
                lambda size=size: zip(x.split(size), y.split(size), strict=True),
                Schedule(2, 1, 1, Probes("off")),
            )
        )
        results.append([s.values["test/loss"] for s in out if isinstance(s, Summary)])
    assert results[0] == pytest.approx(results[1], rel=1e-6)


class Sorts(nn.Module):
    """Data-dependent control flow, which vmap refuses."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(36, 4)

    def forward(self, x):
        out = self.head(x.flatten(1))
        return out if out.sum() > 0 else -out


def test_what_cannot_be_stacked_says_why():
    x = torch.randn(2, 1, 6, 6)
    assert not_vectorizable(Workload(mlp(), x)) is None
    assert not_vectorizable(Workload(cnn(), x)) is None
    assert "data-dependent control flow" in (not_vectorizable(Workload(Sorts(), x)) or "")
    dropout = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.Dropout())
    assert "random" in (not_vectorizable(Workload(dropout, x)) or "")
