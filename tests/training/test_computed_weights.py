"""Weight-normed, spectrally normed and tied models train as a plain loop over each of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from initstudy.engine.choose import ENGINES
from initstudy.engine.optimizers import SGD
from initstudy.initializers import Normal, Orthogonal, as_policy, draw_state, initialize
from tests.engine.test_train import assert_as_plain_loop, problem, run

norm = parametrizations


def chain(wrap):
    def make():
        return nn.Sequential(
            nn.Flatten(), wrap(nn.Linear(36, 24)), nn.Tanh(), wrap(nn.Linear(24, 4))
        )

    return make


class Tied(nn.Module):
    """An autoencoder whose two layers share one weight, and a head."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Linear(36, 36, bias=False), nn.Linear(36, 36)
        self.up.weight, self.head = self.down.weight, nn.Linear(36, 4)

    def forward(self, x):
        return self.head(torch.tanh(self.up(torch.tanh(self.down(x.flatten(1))))))


MODELS = {
    "weight norm": (chain(norm.weight_norm), Normal(0.3)),
    "spectral norm": (chain(norm.spectral_norm), Normal(0.3)),
    "orthogonal": (chain(norm.orthogonal), Orthogonal()),
    "tied": (Tied, Normal(0.2)),
}


@pytest.mark.parametrize("name", MODELS)
def test_members_train_like_a_plain_loop(name):
    make, initializer = MODELS[name]
    torch.manual_seed(0)
    structure = make()
    states = [draw_state(structure, as_policy(initializer), seed) for seed in range(3)]
    members = [state.parameters | state.buffers for state in states]
    batches = problem(len(members))
    ours, theirs = (lambda p: SGD(p, lr=0.1)), (lambda p: torch.optim.SGD(p, 0.1))

    def same():
        torch.manual_seed(0)
        return make()

    rows, summaries, _ = run(same, members, batches, optimizer=ours, engines=ENGINES)
    assert_as_plain_loop(same, members, batches, theirs, rows, summaries)
    # The loop starts from what `initialize` makes of a model.
    filled = initialize(same(), initializer, seed=1)
    loaded = same()
    loaded.load_state_dict(members[1], strict=False)
    x = batches(0)[0][0]
    assert torch.equal(filled.eval()(x), loaded.eval()(x))
