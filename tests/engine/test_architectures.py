"""Architectures that need care to be stacked: recurrence, attention, running statistics."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from initstudy.engine.autograd import Vmap, not_vectorizable
from initstudy.engine.optimizers import SGD
from initstudy.engine.workload import Workload
from initstudy.models import GRU, LSTM, RNN, ResNet, Transformer
from initstudy.probes.layers import find_layers
from tests.engine.test_train import assert_as_plain_loop, engine_of, problem, run

ARCHITECTURES = {
    "lstm": lambda: LSTM((1, 6, 6), 4, width=8, layers=2),
    "gru": lambda: GRU((1, 6, 6), 4, width=8),
    "rnn": lambda: RNN((1, 6, 6), 4, width=8),
    "transformer": lambda: Transformer((1, 6, 6), 4, patch_size=3, width=8, depth=2, heads=2),
    "resnet": lambda: ResNet((1, 6, 6), 4, channels=(3, 4), batch_norm=True),
    "resnet-plain": lambda: ResNet((1, 6, 6), 4, channels=(3, 4), batch_norm=False),
    "encoder-layer": lambda: nn.Sequential(
        nn.Flatten(2, 3),
        nn.TransformerEncoderLayer(36, 2, 16, 0.0, batch_first=True),
        nn.Flatten(),
        nn.Linear(36, 4),
    ),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_stacked_members_train_like_a_plain_loop(name):
    """Losses at every step, and the loss in evaluation mode with the member's own statistics."""
    make = ARCHITECTURES[name]
    members = []
    for seed in range(3):
        torch.manual_seed(seed)
        members.append({n: p.detach().clone() for n, p in make().named_parameters()})
    batches = problem(len(members))
    assert not_vectorizable(Workload(make(), batches(0)[0][0])) is None
    # Small steps: with ten times larger ones a BatchNorm of so few examples amplifies rounding.
    ours, theirs = (lambda p: SGD(p, lr=0.02)), (lambda p: torch.optim.SGD(p, 0.02))
    rows, summaries, stack = run(make, members, batches, optimizer=ours, probes="full")
    assert_as_plain_loop(make, members, batches, theirs, rows, summaries)
    assert stack.buffers.keys() == dict(make().named_buffers()).keys()


def test_running_statistics_are_each_members_own():
    make = ARCHITECTURES["resnet"]
    alone = [make() for _ in range(3)]
    members = [{n: p.detach() for n, p in m.named_parameters()} for m in alone]
    x = torch.randn(3, 16, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    engine = engine_of(make, members, x[0], lambda p: SGD(p, lr=0.1), (Vmap,))
    engine.outputs(x, {})
    for place, model in enumerate(alone):
        model(x[place])
        for name, buffer in model.named_buffers():
            torch.testing.assert_close(engine.stack.buffers[name][place], buffer)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lstm", ["recurrent", "head"]),
        ("resnet", ["stem", "stage1.block1.conv1", "stage1.block1.conv2", 
                    "stage2.block1.shortcut.conv", "stage2.block1.conv1",
                    "stage2.block1.conv2", "head"]),
        ("transformer", ["patches", "positions", "block1.attention", "block1.mlp1", "block1.mlp2",
                         "block2.attention", "block2.mlp1", "block2.mlp2", "head"]),
    ],
)  # fmt: skip
def test_layers_are_found_in_the_order_in_which_they_run(name, expected):
    layers = {
        layer.name: layer for layer in find_layers(ARCHITECTURES[name](), torch.randn(2, 1, 6, 6))
    }
    assert list(layers) == expected
    if name == "transformer":
        # The output projection is multiplied by, but its module never runs.
        assert layers["block1.attention"].weights == (
            "block1.attention.in_proj_weight",
            "block1.attention.out_proj.weight",
        )
        assert layers["block1.mlp1"].output == "block1.act"
    units = {name: layer.units for name, layer in layers.items()}
    assert units["head"] == -1
    assert name != "resnet" or units["stage1.block1.conv1"] == 2
    if name == "lstm":
        assert len(layers["recurrent"].weights) == 4


def test_what_is_no_matrix_or_has_no_batch_is_no_layer():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1, 1, 6))
            self.positions = nn.Embedding(5, 6)
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            x = x * self.scale + self.positions(torch.arange(5))
            return self.head(x).mean(1)

    assert [layer.name for layer in find_layers(Positions(), torch.randn(2, 5, 6))] == ["head"]


def test_a_model_of_several_inputs_has_layers_too():
    model = nn.Bilinear(3, 4, 5)
    assert [layer.name for layer in find_layers(model, (torch.randn(2, 3), torch.randn(2, 4)))] == [
        ""
    ]


def test_the_switches_of_fused_kernels_are_put_back():
    before = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    make = ARCHITECTURES["lstm"]
    members = [{n: p.detach() for n, p in make().named_parameters()}]
    sgd = lambda p: SGD(p, lr=0.1)  # noqa: E731
    engine = engine_of(make, members, torch.randn(2, 1, 6, 6), sgd, (Vmap,))
    engine.outputs(torch.randn(1, 2, 1, 6, 6), {})
    with pytest.raises(IndexError):
        engine.outputs(torch.randn(1, 2, 9), {})
    assert (torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled) == before
