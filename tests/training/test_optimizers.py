"""Optimizers, schedules, clipping and decay against plain loops with torch's own.

Each member of a pack is trained a second time by an ordinary loop: an optimizer of torch.optim (of
timm for Lion, which torch does not have), a scheduler of torch.optim.lr_scheduler, and
`torch.nn.utils.clip_grad_norm_`.
"""

from __future__ import annotations

import copy
import itertools
import sys
import textwrap

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils import clip_grad_norm_
from torch.optim import lr_scheduler

from initstudy.config import ConfigError, as_run
from initstudy.config.command_line import compose_grid
from initstudy.engine.state import State
from initstudy.engine.train import Row
from initstudy.tasks import Batches
from initstudy.training import factory
from initstudy.training.config import order_seeds
from initstudy.training.group import Pack, prepare
from initstudy.training.pack import Resumption, train_pack

CPU = torch.device("cpu")
STEPS = 24
BASE = [
    *("model=mlp", "model.width=12", "model.depth=2", "data.subset=64", "batch_size=16"),
    *(f"max_steps={STEPS}", "log_every=1", "eval_every=1000", "probes.every=9", "tracking=off"),
    *("init=xavier_normal", "name=x"),
]
MINE = """
    import torch

    def rise(step, total_steps, power=1.0):
        return ((step + 1) / total_steps) ** power

    class Rise:
        def __init__(self, slope):
            self.slope = slope
        def __call__(self, step):
            return self.slope * step

    def negative(step):
        return -1.0

    def fails(step):
        return 1 / step

    class Normed(torch.optim.Optimizer):
        '''A step along the gradient, divided by its norm; it replaces the tensors.'''
        def __init__(self, params, lr=0.01, weight_decay=0.0):
            super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
            self.calls = 0
        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    with torch.no_grad():
                        grad = p.grad + group["weight_decay"] * p
                        p.data = p.data - group["lr"] * grad / (grad.norm() + 1e-6)

    class Langevin(torch.optim.SGD):
        def step(self):
            super().step()
            for group in self.param_groups:
                for p in group["params"]:
                    with torch.no_grad():
                        p.add_(torch.randn_like(p), alpha=0.001)

    def no_optimizer(params):
        return 3
"""


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    """A user's module of this name."""
    (tmp_path / "mine_steps.py").write_text(textwrap.dedent(MINE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("mine_steps", None)


def composed(*overrides):
    """A configuration, as plain values."""
    base = [
        key for key in BASE if "model=gru" not in overrides or not key.startswith("model.depth")
    ]
    return compose_grid([*base, *overrides], multirun=False).runs[0]


def variants(base, *changes):
    """Runs that differ from one in some sections and keys."""
    runs = []
    for seed, change in enumerate(changes):
        config = copy.deepcopy(base.config) | {"seed": seed}
        for key, value in change.items():
            section = isinstance(value, dict) and key == "optimizer"
            config[key] = {**config[key], **value} if section else value
        runs.append(as_run(config, base.overrides))
    return runs


def losses_of(runs, **resumption):
    """The training losses of each run by step, and the states on the way."""
    (group,) = prepare(runs, CPU)
    found, states = {run.id: {} for run in runs}, []
    for row in train_pack(Pack(group, tuple(runs)), CPU, Resumption(**resumption)):
        if isinstance(row, Row) and "train/loss" in row.values:
            found[runs[row.member].id][row.step] = row.values["train/loss"]
        elif isinstance(row, State):
            states.append(row)
    return group, [found[run.id] for run in runs], states


def scheduler(config, optimizer, lr, steps=STEPS):
    section = config["schedule"]
    warmup = section.get("warmup", 0)
    after, end = steps - warmup, section.get("end_factor")
    mains = {
        "constant": lambda: lr_scheduler.ConstantLR(optimizer, 1.0),
        "linear": lambda: lr_scheduler.LinearLR(optimizer, 1.0, end, after),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, after, end * lr),
        "step": lambda: lr_scheduler.StepLR(optimizer, section["step_size"], section["gamma"]),
    }
    if not warmup:
        return mains[section["name"]]()
    rising = lr_scheduler.LinearLR(optimizer, 1 / (warmup + 1), 1.0, warmup)
    return lr_scheduler.SequentialLR(optimizer, [rising, mains[section["name"]]()], [warmup])


def plain_losses(run, group, make, *, autocast=False):
    """The losses of an ordinary loop: `make` gives optimizers over groups of parameters."""
    config = run.config
    torch.manual_seed(0)
    model = group.new_model().train()
    drawn, _ = factory.draw(run, model, group.task)
    model.load_state_dict(drawn, strict=False)
    named = dict(model.named_parameters())
    by_decay = [
        {"params": [p for p in named.values() if p.ndim >= 2]},
        {"params": [p for p in named.values() if p.ndim < 2]},
    ]
    if config["decay"] == "matrices":
        by_decay[1]["weight_decay"] = 0.0
    optimizers = make(config["optimizer"], by_decay, named)
    schedules = [scheduler(config, o, o.param_groups[0]["lr"]) for o in optimizers]
    batches = Batches(group.data, order_seeds([run]), config["batch_size"])
    losses = []
    for step in range(STEPS):
        x, y = batches(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            outputs = model(x[0])
        loss = F.cross_entropy(outputs.float(), y[0])
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        if config["clip_norm"] is not None:
            clip_grad_norm_(model.parameters(), config["clip_norm"])
        for each in (*optimizers, *schedules):
            each.step()
    return losses


def timm_lion(c, groups, _):
    from timm.optim import Lion

    return [Lion(groups, lr=c["lr"], betas=c["betas"], weight_decay=c["weight_decay"])]


def torch_muon(c, _, named):
    # The last layer and the biases are AdamW's.
    hidden = [p for n, p in named.items() if p.ndim == 2 and not n.startswith("head")]
    others = [p for p in named.values() if all(p is not h for h in hidden)]
    decayed = [p for p in others if p.ndim == 2]
    groups = [
        {"params": decayed},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [
        torch.optim.Muon(
            hidden,
            lr=c["lr"],
            weight_decay=c["weight_decay"],
            momentum=c["momentum"],
            adjust_lr_fn=c["adjust_lr_fn"],
        ),
        torch.optim.AdamW(
            groups, c["adamw_lr"], tuple(c["betas"]), c["eps"], weight_decay=c["weight_decay"]
        ),
    ]


KINDS = {
    "sgd": lambda c, g, _: [
        torch.optim.SGD(g, c["lr"], c["momentum"], weight_decay=c["weight_decay"])
    ],
    "adam": lambda c, g, _: [torch.optim.Adam(g, c["lr"], weight_decay=c["weight_decay"])],
    "adamw": lambda c, g, _: [torch.optim.AdamW(g, c["lr"], weight_decay=c["weight_decay"])],
    "rmsprop": lambda c, g, _: [
        torch.optim.RMSprop(g, c["lr"], momentum=c["momentum"], weight_decay=c["weight_decay"])
    ],
    "lion": timm_lion,
    "muon": torch_muon,
}


def calm(name):
    """Muon orthogonalizes in bfloat16: at its usual rate a last digit soon becomes the fourth."""
    return ["optimizer.lr=0.002"] if name == "muon" else []


# Each member has another schedule, another limit of its gradients, and another rate.
ALL_DIFFERENT = (
    {"schedule": {"name": "constant", "warmup": 5}, "clip_norm": 0.5},
    {"schedule": {"name": "linear", "warmup": 0, "end_factor": 0.1}, "clip_norm": None},
    {"schedule": {"name": "cosine", "warmup": 4, "end_factor": 0.0}, "clip_norm": 2.0},
    {"schedule": {"name": "step", "warmup": 3, "step_size": 7, "gamma": 0.5}, "clip_norm": 0.2},
    {"schedule": {"name": "constant", "warmup": 0}, "clip_norm": None},
)


def assert_as_plain_loops(runs, group, found, make, rtol=1e-4, **options):
    for run, losses in zip(runs, found, strict=True):
        expected = plain_losses(run, group, make, **options)
        np.testing.assert_allclose([losses[i + 1] for i in range(STEPS)], expected, rtol=rtol)
        assert expected[-1] != pytest.approx(expected[0], rel=1e-3)


@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("name", KINDS)
def test_members_with_other_schedules_and_limits_train_like_plain_loops(name, activation):
    base = composed(f"optimizer={name}", f"model.activation={activation}", *calm(name))
    rates = itertools.cycle([base.config["optimizer"]["lr"], base.config["optimizer"]["lr"] / 2])
    runs = variants(
        base,
        *(
            {**change, "optimizer": {"lr": lr, "weight_decay": 0.01}, "decay": "matrices"}
            for change, lr in zip(ALL_DIFFERENT, rates, strict=False)
        ),
    )
    group, found, _ = losses_of(runs)
    compiled = activation == "relu" and name in ("sgd", "adam", "adamw")
    assert group.engine.name == ("compiled" if compiled else "batched")
    assert_as_plain_loops(runs, group, found, KINDS[name])


@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("name", KINDS)
def test_members_that_share_all_settings_train_like_plain_loops(name, activation):
    base = composed(
        *(f"optimizer={name}", f"model.activation={activation}", "clip_norm=0.4"),
        *("schedule=cosine", "schedule.warmup=6", "optimizer.weight_decay=0", *calm(name)),
    )
    runs = variants(base, {}, {}, {})
    group, found, _ = losses_of(runs)
    assert_as_plain_loops(runs, group, found, KINDS[name])


@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.parametrize("decay", ["all", "matrices"])
def test_a_model_of_any_kind_trains_like_a_plain_loop(decay):
    """A GRU, through `vmap`; the decay is large, so that what it takes shows."""
    base = composed(
        *("model=gru", "model.width=8", "optimizer=adamw", "optimizer.weight_decay=3"),
        *("schedule=linear", "clip_norm=0.5", f"decay={decay}", "optimizer.lr=0.01"),
    )
    runs = variants(base, {}, {"clip_norm": None})
    group, found, _ = losses_of(runs)
    assert group.engine.name == "vmap"
    assert_as_plain_loops(runs, group, found, KINDS["adamw"])


def test_decay_of_all_parameters_and_of_matrices_alone_may_share_a_pack():
    base = composed("optimizer=sgd", "optimizer.weight_decay=0.5")
    runs = variants(base, {"decay": "all"}, {"decay": "matrices"})
    group, found, _ = losses_of(runs)
    assert_as_plain_loops(runs, group, found, KINDS["sgd"])


TARGETS = {
    "torch.optim.RMSprop": lambda c, g, _: [
        torch.optim.RMSprop(g, c["lr"], alpha=c["alpha"], weight_decay=c["weight_decay"])
    ],
    "torch.optim.NAdam": lambda c, g, _: [
        torch.optim.NAdam(g, c["lr"], weight_decay=c["weight_decay"])
    ],
    "mine_steps.Normed": lambda c, g, _: [
        sys.modules["mine_steps"].Normed(g, c["lr"], c["weight_decay"])
    ],
}


def targeted(target, *more):
    alpha = ["+optimizer.alpha=0.9"] if target.endswith("RMSprop") else []
    return composed(
        f"optimizer._target_={target}",
        "optimizer.lr=0.003",
        "optimizer.weight_decay=0.01",
        *alpha,
        *more,
    )


@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.parametrize("settings", ["same", "own"])
@pytest.mark.parametrize("target", TARGETS)
def test_any_optimizer_of_torchs_form_trains_like_a_plain_loop(target, settings, caplog):
    base = targeted(target, "schedule=cosine", "schedule.warmup=4", "clip_norm=0.5")
    own = {"optimizer": {"lr": 0.001}, "clip_norm": None, "decay": "matrices"}
    runs = variants(base, {}, {}, own if settings == "own" else {})
    group, found, _ = losses_of(runs)
    assert group.engine.name == "batched"
    assert_as_plain_loops(runs, group, found, TARGETS[target])
    stacked = group.updates.trial.why_not_stacked is None
    assert stacked == (target != "mine_steps.Normed")
    said = [record.getMessage() for record in caplog.records if target in record.getMessage()]
    if stacked and settings == "same":
        assert not said
    else:
        why = "their settings differ" if stacked else "stacked members differed from members alone"
        assert f"{target} updates one run after another: " in said[0]
        assert why in said[0]


def test_what_the_constructor_has_by_default_stays_and_the_rate_is_recorded():
    base = composed("optimizer._target_=torch.optim.RMSprop")
    # Not sgd's 0.02, nor its momentum.
    assert base.config["optimizer"] == {
        "_target_": "torch.optim.RMSprop",
        "name": "RMSprop",
        "lr": 0.01,
    }


@pytest.mark.parametrize("resumed", [9, 17])
@pytest.mark.parametrize("name", [*KINDS, *TARGETS])
def test_a_pack_that_goes_on_in_the_middle_of_its_schedules_has_the_same_bits(name, resumed):
    base = targeted(name) if "." in name else composed(f"optimizer={name}")
    runs = variants(base, *ALL_DIFFERENT)
    steps = itertools.count(1)
    _, whole, states = losses_of(runs, due=lambda: next(steps) == resumed)
    (state,) = states
    _, rest, _ = losses_of(runs, state=state)
    for all_losses, later in zip(whole, rest, strict=True):
        assert min(later) == resumed
        assert later == {step: loss for step, loss in all_losses.items() if step >= resumed}


@pytest.mark.parametrize("name", [*KINDS, *TARGETS])
def test_a_member_that_diverges_changes_no_bit_of_the_others(name):
    base = targeted(name) if "." in name else composed(f"optimizer={name}")
    # Weights near 1e30 overflow in the first forward pass.
    huge = {"_target_": "initstudy.initializers.Normal", "std": 1e30, "bias": 0.0}
    settings = {"schedule": {"name": "cosine", "end_factor": 0.1}, "clip_norm": 0.5}
    runs = variants(base, settings, {**settings, "init": huge}, settings)
    healthy = [runs[0], runs[2]]
    _, found, _ = losses_of(runs)
    _, expected, _ = losses_of(healthy)
    assert len(found[1]) < STEPS
    assert [found[0], found[2]] == expected


def test_an_optimizer_that_draws_random_numbers_trains_one_by_one_each_from_its_own_seed():
    base = composed("optimizer._target_=mine_steps.Langevin", "optimizer.lr=0.01")
    runs = variants(base, {}, {}, {})
    group, found, _ = losses_of(runs)
    assert group.engine.name == "one by one"
    assert group.engine.reasons["vmap"] == "the optimizer draws random numbers"
    alone = [losses_of([run])[1][0] for run in runs]
    assert found == alone


@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_schedules_of_ones_own_take_the_step_and_all_steps_and_their_arguments():
    base = composed("optimizer=sgd", "optimizer.lr=0.05")
    rise = {"_target_": "mine_steps.rise", "power": 2.0}
    runs = variants(
        base,
        {"schedule": rise},
        {"schedule": {"_target_": "mine_steps.Rise", "slope": 0.02}},
        {"schedule": {"name": "constant"}},
    )
    group, found, _ = losses_of(runs)
    factors = [lambda t: ((t + 1) / STEPS) ** 2, lambda t: 0.02 * t, lambda t: 1.0]
    for run, losses, factor in zip(runs, found, factors, strict=True):

        def make(c, groups, _, factor=factor):
            optimizer = torch.optim.SGD(groups, c["lr"], c["momentum"])
            # What `scheduler` adds is constant; this one sets the rates.
            optimizer.register_step_pre_hook(make_setter(c["lr"], factor))
            return [optimizer]

        run.config["schedule"] = {"name": "constant"}
        expected = plain_losses(run, group, make)
        np.testing.assert_allclose([losses[i + 1] for i in range(STEPS)], expected, rtol=1e-4)


def make_setter(lr, factor):
    steps = itertools.count()

    def set_rate(optimizer, *_):
        rate = lr * factor(next(steps))
        for group in optimizer.param_groups:
            group["lr"] = rate

    return set_rate


def test_a_group_that_was_made_for_other_runs_trains_schedules_that_it_has_not_seen():
    """As in a worker that gets one pack after another of the same group."""
    base = composed("optimizer=sgd")
    first, second = variants(base, ALL_DIFFERENT[1], ALL_DIFFERENT[2])
    (group,) = prepare([first], CPU)
    rows = train_pack(Pack(group, (second,)), CPU)
    found = {r.step: r.values["train/loss"] for r in rows if isinstance(r, Row)}
    assert found == losses_of([second])[1][0]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("schedule.warmup=24", "schedule.warmup=24: must be below the number of steps, 24"),
        ("schedule._target_=mine_steps.negative", "mine_steps.negative: gives -1.0 at step 0"),
        ("schedule._target_=mine_steps.fails", "mine_steps.fails: raises at step 0: ZeroDivision"),
        (
            "optimizer._target_=mine_steps.no_optimizer",
            "makes a int, which is no torch.optim.Optimizer",
        ),
        ("optimizer._target_=torch.optim.LBFGS", "torch.optim.LBFGS: LBFGS.step.. missing 1"),
        ("optimizer._target_=torch.optim.Muon", "torch.optim.Muon: Muon only supports 2D"),
    ],
)
def test_what_cannot_be_a_schedule_or_an_optimizer_is_said_before_training(word, said):
    with pytest.raises(ConfigError, match=said):
        prepare([composed(word)], CPU)


class TestPrecision:
    def test_bf16_is_autocast_and_trains_like_a_plain_loop_under_it(self):
        base = composed("optimizer=adam", "precision=bf16")
        runs = variants(base, {}, {}, {})
        group, found, _ = losses_of(runs)
        assert group.engine.name == "one by one"
        assert group.engine.reasons["vmap"] == "it does not compute with precision=bf16"
        assert_as_plain_loops(runs, group, found, KINDS["adam"], autocast=True)
        _, single, _ = losses_of(variants(composed("optimizer=adam"), {}, {}, {}))
        assert single[0][1] != found[0][1]
        assert single[0][1] == pytest.approx(found[0][1], rel=0.02)

    def test_tf32_is_refused_where_there_is_none(self):
        with pytest.raises(ConfigError, match="precision=tf32: only GPUs have it"):
            prepare([composed("precision=tf32")], CPU)
