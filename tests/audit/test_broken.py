"""Networks with one known fault: the audit names it first, and the repair makes them train."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import initstudy
from initstudy.audit.repair import Repaired
from initstudy.claims.statistics import mean_interval
from tests.audit.networks import BROKEN, Case, data

X, Y = data()
STEPS, BATCH = 100, 64
# Those that do not train as they are. The faults of the others slow training down, or show later.
UNTRAINABLE = [
    "exploding", "vanishing", "one bad layer", "zeros", "constants", "inputs of 0 to 255",
    "one feature of 10,000", "functional tanh saturated", "exploding in time",
    "softmax before cross-entropy", "unscaled targets", "all frozen", "learning rate",
]  # fmt: skip


def audited(case: Case, net: nn.Module):
    rate = None if case.learning_rate is None else case.learning_rate
    return initstudy.audit_model(
        net, case.inputs(X), targets=case.targets(Y), loss=case.loss, learning_rate=rate
    )


def final_loss(net: nn.Module, case: Case, y: torch.Tensor, lr: float, seed: int) -> float:
    """The loss after a hundred steps of plain gradient descent, at most that of ten nats."""
    params = [p for p in net.parameters() if p.requires_grad]
    x = case.inputs(X)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    for step in range(STEPS if params else 0):
        chosen = order[torch.arange(step * BATCH, (step + 1) * BATCH) % len(x)]
        loss = case.loss(net(x[chosen]), y[chosen])
        for p, g in zip(params, torch.autograd.grad(loss, params), strict=True):
            p.data.sub_(g, alpha=lr)
    with torch.no_grad():
        loss = case.loss(net(x), y)
    return min(float(loss), 10.0) if torch.isfinite(loss) else 10.0


@pytest.mark.parametrize("name", BROKEN)
def test_the_true_reason_comes_first(name):
    case = BROKEN[name]
    first = audited(case, case.make()).warnings[0]
    assert first.code == case.code
    assert first.follows is None
    if case.where is not None:
        assert first.where[0] == case.where
    for words in case.says:
        assert words in first.message


@pytest.mark.parametrize("name", UNTRAINABLE)
def test_the_repair_trains_where_the_original_does_not(name):
    """The gain's 95% interval, paired by seed, lies above zero, and the repaired loss is low."""
    case = BROKEN[name]
    gains, repaired_losses = [], []
    for seed in range(3):
        torch.manual_seed(seed)
        net = case.make()
        repair = audited(case, net).repair()
        own_lr = case.lr if case.learning_rate is None else case.learning_rate
        lr = case.lr if repair.learning_rate is None else repair.learning_rate
        y = case.targets(Y)
        scaled = y if repair.targets is None else repair.targets(y)
        fixed = repair.apply(copy.deepcopy(net), seed=seed)
        own = final_loss(net, case, y, own_lr, seed)
        repaired_losses.append(final_loss(fixed, case, scaled, lr, seed))
        gains.append(own - repaired_losses[-1])
    assert max(repaired_losses) < 0.45
    assert mean_interval(gains).above_zero


@pytest.mark.parametrize("name", [n for n in BROKEN if n not in ("sigmoids", "detached", "unused")])
def test_a_repaired_network_has_that_fault_no_more(name):
    case = BROKEN[name]
    net = case.make()
    repair = audited(case, net).repair()
    fixed = repair.apply(net)
    x, y = case.inputs(X), case.targets(Y)
    if isinstance(fixed, Repaired) and repair.inputs is not None:
        x, fixed = repair.inputs(x), fixed.model
    y = y if repair.targets is None else repair.targets(y)
    again = initstudy.audit_model(
        fixed, x, targets=y, loss=case.loss, learning_rate=repair.learning_rate
    )
    assert case.code not in {warning.code for warning in again.warnings}


def test_the_repair_is_the_smallest():
    """A dead layer's bias alone changes; one bad layer's weight alone."""
    for name, changed in (("one dead layer", {"8.bias"}), ("one bad layer", {"8.weight"})):
        case = BROKEN[name]
        net = case.make()
        before = copy.deepcopy(net.state_dict())
        audited(case, net).repair().apply(net)
        after = net.state_dict()
        assert {n for n in before if not torch.equal(before[n], after[n])} == changed


def test_the_repair_as_text_is_the_repair(tmp_path):
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    net = BROKEN["exploding"].make()
    repair = audited(BROKEN["exploding"], net).repair()
    by_object = repair.apply(copy.deepcopy(net), seed=0).state_dict()
    model = copy.deepcopy(net)
    exec(repair.python(), {"model": model})
    by_yaml = instantiate(OmegaConf.create(repair.yaml()), _convert_="all")
    other = initstudy.initialize(copy.deepcopy(net), by_yaml, seed=0).state_dict()
    for name, value in by_object.items():
        assert torch.equal(value, model.state_dict()[name])
        assert torch.equal(value, other[name])
    assert repair.policy.rules[0].name == tuple(f"{2 * i}.weight" for i in range(10))
