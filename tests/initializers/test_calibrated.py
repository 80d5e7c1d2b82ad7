"""Initializations that look at data, against what the layers then put out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from initstudy.initializers import (
    LSUV,
    Constant,
    Cost,
    Normal,
    WithinLayer,
    calibrate,
    draw,
    initialize,
)


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 4, 3, groups=2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(400, 30),
        nn.ReLU(),
        nn.Linear(30, 10, bias=False),
    )


def batch(count=64):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 3 + 1


def outputs(net, x):
    for module in net:
        x = module(x)
        if list(module.parameters()):
            yield x.detach()


def test_lsuv_gives_every_layer_unit_variance():
    net = initialize(cnn(), LSUV(), seed=0, batch=batch())
    for output in outputs(net, batch()):
        assert output.var(correction=0) == pytest.approx(1.0, abs=0.1)
    assert (net[0].bias == 0).all()


def test_lsuv_only_rescales_the_orthonormal_weights():
    start = draw(cnn(), LSUV().start(), 0)
    values, _ = calibrate(cnn(), LSUV(), start, batch())
    for name, value in values.items():
        if name.endswith("weight"):
            ratio = value / start[name]
            assert ratio.std() / ratio.mean() < 1e-5
        else:
            assert torch.equal(value, start[name])


def test_within_layer_gives_every_channel_zero_mean_and_unit_variance():
    net = initialize(cnn(), WithinLayer(mean=0.5), seed=1, batch=batch())
    *first, last = outputs(net, batch())
    for output in first:
        channels = output.movedim(-1 if output.dim() == 2 else 1, 0).flatten(1)
        torch.testing.assert_close(
            channels.mean(1), torch.full((len(channels),), 0.5), atol=1e-4, rtol=0
        )
        torch.testing.assert_close(
            channels.var(1, correction=0), torch.ones(len(channels)), atol=1e-3, rtol=0
        )
    torch.testing.assert_close(last.var(0, correction=0), torch.ones(10), atol=1e-3, rtol=0)


def test_the_cost_is_the_passes_that_the_model_really_ran():
    net, runs = cnn(), []
    net[0].register_forward_hook(lambda *_: runs.append(1))
    for calibrated in (LSUV(), WithinLayer()):
        runs.clear()
        _, cost = calibrate(net, calibrated, draw(net, calibrated.start(), 0), batch(40))
        # The first layer runs in every pass.
        assert cost == Cost(examples=40, passes=len(runs))


def test_running_statistics_modes_and_the_random_state_do_not_notice():
    net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    state = torch.get_rng_state()
    before = {k: v.clone() for k, v in net.state_dict().items() if "running" in k}
    initialize(net, LSUV(), seed=0, batch=torch.randn(20, 5, generator=torch.Generator()))
    assert all(torch.equal(net.state_dict()[k], v) for k, v in before.items())
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training


def test_a_model_of_models_is_calibrated_in_the_order_in_which_it_runs():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(6, 4), nn.Linear(3, 6)

        def forward(self, x):
            return self.last(torch.relu(self.first(x)))

    x = 5 * torch.randn(200, 3, generator=torch.Generator().manual_seed(2))
    net = initialize(Backwards(), LSUV(tolerance=1e-3), seed=0, batch=x)
    assert net(x).var(correction=0).item() == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize(
    ("calibrated", "x", "said"),
    [
        (LSUV(), torch.full((4, 1, 8, 8), torch.nan), "holds NaN or infinities"),
        (LSUV(Constant(0.0)), batch(), "cannot bring 0 to unit variance: it reached 0"),
        (WithinLayer(Constant(0.0)), batch(), "0 cannot be brought to unit variance"),
        (LSUV(Normal(), bias=torch.inf), batch(), r"init\.value=inf"),
    ],
)
def test_what_cannot_be_calibrated_is_named(calibrated, x, said):
    with pytest.raises(ValueError, match=said):
        initialize(cnn(), calibrated, seed=0, batch=x)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"init\.tolerance=-1"):
        LSUV(tolerance=-1)
    with pytest.raises(ValueError, match="LSUV looks at data; give it a batch"):
        initialize(cnn(), LSUV(), seed=0)
    with pytest.raises(ValueError, match="no linear or convolution layer"):
        initialize(nn.LayerNorm(3), LSUV(), seed=0, batch=torch.ones(2, 3))


def test_tokens_are_a_batch_as_well():
    """The layer behind an embedding starts with a variance of one."""
    tokens = torch.randint(16, (64, 8), generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Embedding(16, 32), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 16))
    initialize(model, LSUV(), seed=0, batch=tokens)
    assert model[:2](tokens).var().item() == pytest.approx(1.0, abs=LSUV().tolerance)
    assert model(tokens).var().item() == pytest.approx(1.0, abs=LSUV().tolerance)
