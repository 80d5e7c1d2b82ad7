"""The compiled step is the step of plain PyTorch, for every member, whatever its neighbours."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from initstudy.engine.autograd import differentiate
from initstudy.engine.batched import stages
from initstudy.engine.compiled import Program, program
from initstudy.engine.optimizers import SGD, Adam, AdamW
from initstudy.engine.schedule import Schedule
from initstudy.engine.stack import Stack
from initstudy.engine.stepper import Stepper
from initstudy.engine.train import train
from initstudy.probes import statistics as statistics
from initstudy.probes.layers import find_layers
from initstudy.probes.statistics import Probes

STEPS, MEMBERS, BATCH, INPUTS, CLASSES = 12, 6, 10, 12, 5
MODELS = {
    "mlp": lambda: nn.Sequential(
        nn.Flatten(),
        nn.Linear(INPUTS, 9),
        nn.ReLU(),
        nn.Linear(9, 7),
        nn.ReLU(),
        nn.Linear(7, CLASSES),
    ),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(INPUTS, CLASSES)),
    "no-bias": lambda: nn.Sequential(
        nn.Flatten(),
        nn.Linear(INPUTS, 17, bias=False),
        nn.ReLU(),
        nn.Linear(17, CLASSES, bias=False),
    ),
    "deep-linear": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(INPUTS, 4), nn.Identity(), nn.Linear(4, 3), nn.Linear(3, CLASSES)
    ),
    "one-unit": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(INPUTS, 1), nn.ReLU(), nn.Linear(1, CLASSES)
    ),
}
# Of a member: learning rate, weight decay, momentum.
RATES = [(0.02 * (k + 1), 0.01 * k, 0.15 * k) for k in range(MEMBERS)]
OPTIMIZERS = {
    "sgd": (
        lambda p, lr, decay, _: SGD(p, lr=lr, weight_decay=decay),
        lambda p, lr, decay, _: torch.optim.SGD(p, lr, weight_decay=decay),
    ),
    "momentum": (
        lambda p, lr, decay, mu: SGD(p, lr=lr, weight_decay=decay, momentum=mu),
        lambda p, lr, decay, mu: torch.optim.SGD(p, lr, momentum=mu, weight_decay=decay),
    ),
    "nesterov": (
        lambda p, lr, decay, _: SGD(p, lr=lr, weight_decay=decay, momentum=0.8, nesterov=True),
        lambda p, lr, decay, _: torch.optim.SGD(
            p, lr, momentum=0.8, nesterov=True, weight_decay=decay
        ),
    ),
    "adam": (
        lambda p, lr, decay, _: Adam(p, lr=lr, weight_decay=decay, betas=(0.8, 0.99), eps=1e-3),
        lambda p, lr, decay, _: torch.optim.Adam(
            p, lr, betas=(0.8, 0.99), eps=1e-3, weight_decay=decay
        ),
    ),
    "adamw": (
        lambda p, lr, decay, _: AdamW(p, lr=lr, weight_decay=decay, eps=1e-3),
        lambda p, lr, decay, _: torch.optim.AdamW(p, lr, eps=1e-3, weight_decay=decay),
    ),
}


def drawn(make, size=MEMBERS):
    models = []
    for seed in range(size):
        torch.manual_seed(seed)
        models.append(make())
    return models


def data(groups, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(STEPS, groups, BATCH, 1, 3, INPUTS // 3, generator=generator)
    return x, torch.randint(CLASSES, (STEPS, groups, BATCH), generator=generator)


def stacked(make, models):
    members = [{n: p.detach().clone() for n, p in m.named_parameters()} for m in models]
    model = make()
    example = torch.zeros(2, 1, 3, INPUTS // 3, dtype=next(model.parameters()).dtype)
    return Stack(model, members, stages=stages(model, example))


def stepper_of(make, models, optimizer="momentum", rates=RATES):
    stack = stacked(make, models)
    lr, decay, momentum = (list(values) for values in zip(*rates[: len(models)], strict=True))
    made = OPTIMIZERS[optimizer][0](list(stack.params.values()), lr, decay, momentum)
    return Stepper(stack, made)


def compiled(*args, **kwargs):
    found = program(stepper_of(*args, **kwargs))
    assert isinstance(found, Program)
    return found


def values_of(step):
    stack = step.stepper.stack
    return [stack.member(k) for k in range(stack.size)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("groups", [1, 3, MEMBERS])
def test_members_train_like_plain_models_with_torchs_optimizers(make, groups, optimizer):
    models = drawn(make)
    step = compiled(make, models, optimizer)
    optimizers = [
        OPTIMIZERS[optimizer][1](m.parameters(), *r) for m, r in zip(models, RATES, strict=True)
    ]
    x, y = data(groups)
    for t in range(STEPS):
        losses, hits = step(x[t], y[t])
        for k, (model, optim) in enumerate(zip(models, optimizers, strict=True)):
            group = k * groups // MEMBERS
            logits = model(x[t, group])
            loss = F.cross_entropy(logits, y[t, group])
            optim.zero_grad()
            loss.backward()
            optim.step()
            assert losses[k].item() == pytest.approx(loss.item(), rel=2e-5)
            assert hits[k] == (logits.argmax(1) == y[t, group]).float().mean()
    for found, model in zip(values_of(step), models, strict=True):
        for name, param in model.named_parameters():
            torch.testing.assert_close(found[name], param.detach(), rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_a_member_is_the_same_to_the_last_bit_alone_and_in_any_pack(optimizer):
    make = MODELS["mlp"]
    models = drawn(make)
    x, y = data(1)
    together = compiled(make, models, optimizer)
    found = [together(x[t], y[t])[0] for t in range(STEPS)]
    for k, model in enumerate(models):
        alone = compiled(make, [model], optimizer, RATES[k:])
        for t in range(STEPS):
            assert alone(x[t], y[t])[0] == found[t][k]
        for name, value in values_of(alone)[0].items():
            assert torch.equal(value, together.stepper.stack.member(k)[name])


def test_members_shared_out_to_threads_are_the_same_to_the_last_bit():
    make = MODELS["mlp"]
    x, y = data(2)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            step = compiled(make, drawn(make))
            found.append([step(x[t], y[t]) for t in range(STEPS)])
            assert len(step.scratch[BATCH]) == threads
    finally:
        torch.set_num_threads(before)
    assert all(
        torch.equal(a, b)
        for one, other in zip(*found, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def test_a_member_that_diverges_is_frozen_as_it_was_and_touches_nobody():
    make = MODELS["mlp"]
    models = drawn(make)
    x, y = data(1)
    whole = compiled(make, models)
    with torch.no_grad():
        models[2][1].weight.mul_(1e30)
        models[2][3].weight.mul_(1e30)
    step = compiled(make, models)
    frozen = step.stepper.stack.member(2)
    for t in range(STEPS):
        expected, _ = whole(x[t], y[t])
        losses, hits = step(x[t], y[t])
        assert not losses[2].isfinite()
        assert hits[2] == 0
        others = [0, 1, 3, 4, 5]
        assert torch.equal(losses[others], expected[others])
    assert step.stepper.alive.tolist() == [True, True, False, True, True, True]
    assert step.stepper.diverged_at.tolist() == [-1, -1, 0, -1, -1, -1]
    assert step.stepper.number == STEPS
    for name, value in step.stepper.stack.member(2).items():
        assert torch.equal(value, frozen[name])


@pytest.mark.parametrize("broken", [None, "large", "nan", "dead"])
@pytest.mark.parametrize("updating", [True, False])
def test_what_is_watched_is_what_the_probes_measure(broken, updating):
    make = MODELS["mlp"]
    models = drawn(make)
    with torch.no_grad():
        if broken == "large":
            models[1][3].weight.mul_(3e38)
        if broken == "nan":
            models[1][3].bias[0] = torch.nan
        if broken == "dead":
            models[1][1].bias.fill_(-100)
    x, y = data(3)
    layers = find_layers(make(), x[0, 0])
    step, plain = compiled(make, models), stepper_of(make, models)
    assert step.can_watch(layers)
    params = {name: p.detach() for name, p in plain.stack.params.items()}
    seen = differentiate(plain.stack, x[0], y[0], layers)
    expected = statistics.measure(
        layers,
        seen.outputs,
        seen.output_grads,
        params,
        dict(zip(params, seen.grads, strict=True)),
        full=False,
    )
    before = {name: param.clone() for name, param in params.items()}
    if updating:
        plain.update(seen, {})
    expected |= statistics.update_ratios(layers, before, params, expected)
    losses, hits, found = step.watched(x[0], y[0], layers, updating=updating)
    torch.testing.assert_close(losses, seen.loss, equal_nan=True)
    torch.testing.assert_close(hits, seen.hits)
    assert found.keys() == expected.keys()
    for key in expected:
        torch.testing.assert_close(
            found[key], expected[key], rtol=1e-4, atol=1e-7, equal_nan=True, msg=key
        )
    if not updating:
        assert step.stepper.number == 0
        assert step.stepper.alive.all()
        now = {n: p.detach() for n, p in step.stepper.stack.params.items()}
        torch.testing.assert_close(now, before, rtol=0, atol=0, equal_nan=True)


def test_scores_are_those_of_plain_models():
    make = MODELS["mlp"]
    models = drawn(make)
    step = compiled(make, models)
    x, y = data(1)
    for chunk in (slice(None), slice(0, 3)):
        losses, hits = step.scores(x[0, 0, chunk], y[0, 0, chunk])
        for k, model in enumerate(models):
            logits = model(x[0, 0, chunk])
            expected = F.cross_entropy(logits, y[0, 0, chunk]).item()
            assert losses[k].item() == pytest.approx(expected, rel=1e-5)
            assert hits[k] == (logits.argmax(1) == y[0, 0, chunk]).float().mean()


def test_training_takes_the_compiled_step_and_probes_change_no_result(monkeypatch):
    make = MODELS["mlp"]
    x, y = data(1)
    calls = []
    run = Program._run
    monkeypatch.setattr(
        Program, "_run", lambda self, *a, **k: calls.append(k["updating"]) or run(self, *a, **k)
    )
    losses = {}
    for preset in ("off", "basic"):
        stepper = stepper_of(make, drawn(make))
        rows = train(
            stepper.stack,
            stepper.optimizer,
            lambda t, _: (x[t], y[t]),
            lambda: iter([(x[0, 0], y[0, 0])]),
            find_layers(make(), x[0, 0]),
            Schedule(STEPS - 1, 1, STEPS, Probes(preset, 3)),
        )
        losses[preset] = [row.values["train/loss"] for row in rows if "train/loss" in row.values]
    assert losses["off"] == losses["basic"]
    # One step more, to look at the last state without an update.
    assert calls == [True] * (STEPS - 1) + [True] * (STEPS - 1) + [False]


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(INPUTS, 4), nn.Tanh(), nn.Linear(4, CLASSES)),
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(4, CLASSES)),
        lambda: nn.Sequential(nn.Flatten(), nn.LayerNorm(INPUTS), nn.Linear(INPUTS, CLASSES)),
        lambda: nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(INPUTS, CLASSES)),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(INPUTS, CLASSES), nn.ReLU()),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(INPUTS, CLASSES)).double(),
    ],
    ids=["tanh", "conv", "layer-norm", "relu-first", "relu-last", "double"],
)
def test_other_models_have_none(make):
    assert program(stepper_of(make, drawn(make))) is None


def test_a_label_beyond_the_classes_is_an_error():
    step = compiled(MODELS["mlp"], drawn(MODELS["mlp"]))
    x, y = data(1)
    with pytest.raises(IndexError, match="label"):
        step(x[0], torch.full_like(y[0], CLASSES))
