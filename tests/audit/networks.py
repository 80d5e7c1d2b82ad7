"""Networks with one known fault each, and healthy ones, for the tests of the audit."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from initstudy.initializers import KaimingNormal, XavierNormal, as_policy, initialize

FEATURES, CLASSES, WIDTH = 32, 4, 64


def data(count: int = 256, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points around one centre per class; a linear classifier is right about 95% of them."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, FEATURES, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(count) % CLASSES
    noise = torch.randn(count, FEATURES, generator=generator)
    return 0.45 * centres[labels] + 0.9 * noise, labels


def images(count: int = 8, side: int = 32, channels: int = 3) -> Tensor:
    """Standard normal images."""
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(0))


class Functional(nn.Module):
    """A multilayer perceptron whose activation function is no module."""

    def __init__(
        self, activation: Callable[[Tensor], Tensor] = F.relu, depth: int = 6, width: int = WIDTH
    ) -> None:
        super().__init__()
        sizes = [FEATURES] + [width] * depth
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.head = nn.Linear(width, CLASSES)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.activation(layer(x))
        return self.head(x)


def mlp(
    depth: int = 10, activation: type[nn.Module] = nn.ReLU, width: int = WIDTH, outputs=CLASSES
) -> nn.Sequential:
    """A multilayer perceptron, filled by He's rule for ReLU and by Glorot's for the others."""
    layers: list[nn.Module] = []
    for index in range(depth):
        layers += [nn.Linear(width if index else FEATURES, width), activation()]
    net = nn.Sequential(*layers, nn.Linear(width, outputs))
    rule = KaimingNormal() if activation is nn.ReLU else XavierNormal()
    initialize(net, as_policy(rule), seed=0)
    # A head of small weights, so that nothing but the fault shows.
    fill(net[-1], 0.3 / width**0.5)
    return net


def fill(layer: nn.Linear, std: float, bias: float = 0.0) -> None:
    """Fills a layer with N(0, std²) and a constant bias."""
    generator = torch.Generator().manual_seed(SEEDS())
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * std)
        layer.bias.fill_(bias)


SEEDS = itertools.count(7).__next__


def linears(net: nn.Module) -> list[nn.Linear]:
    """The linear layers of a network."""
    return [module for module in net.modules() if isinstance(module, nn.Linear)]


def scaled(net: nn.Module, std: float) -> nn.Module:
    """Fills all layers but the last with N(0, std²)."""
    for layer in linears(net)[:-1]:
        fill(layer, std)
    return net


def cloned_blocks() -> nn.Module:
    """nn.TransformerEncoder, which copies one layer, behind an average over the sequence."""

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 3)
            self.head = nn.Linear(8, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.encoder(x.view(len(x), 4, 8)).mean(1))

    torch.manual_seed(0)
    return Classifier()


class Recurrent(nn.Module):
    """A recurrent network that classifies by its last state."""

    def __init__(self, gain: float, steps: int = 32, hidden: int = 48) -> None:
        super().__init__()
        self.rnn = nn.RNN(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, CLASSES)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            noise = torch.randn(hidden, hidden, generator=generator)
            self.rnn.weight_hh_l0.copy_(noise * gain / hidden**0.5)
            nn.init.zeros_(self.rnn.bias_hh_l0)
            nn.init.zeros_(self.rnn.bias_ih_l0)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x[..., None])[0][:, -1])


class Softmaxed(nn.Module):
    """Returns probabilities, to a loss that expects logits."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).softmax(-1)


class Detached(nn.Module):
    """Cuts its graph in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = mlp(3, outputs=WIDTH), nn.Linear(WIDTH, CLASSES)
        fill(self.body[-1], (2 / WIDTH) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).detach().relu())


class Unused(nn.Module):
    """Has a layer that it does not call."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.spare = mlp(3), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def one_bad_layer() -> nn.Module:
    net = mlp()
    fill(net[8], 2.0)
    return net


def dead_layer() -> nn.Module:
    net = mlp()
    fill(net[8], (2 / WIDTH) ** 0.5, bias=-6.0)
    return net


def duplicated() -> nn.Module:
    net = mlp(4)
    with torch.no_grad():
        for layer in linears(net)[1:3]:
            layer.weight[WIDTH // 2 :] = layer.weight[: WIDTH // 2]
    return net


def outlier() -> nn.Module:
    net = mlp(4)
    with torch.no_grad():
        net[2].weight[3, 5] = 100 * net[2].weight.std()
    return net


def constant() -> nn.Module:
    net = mlp(3)
    for layer in linears(net):
        nn.init.constant_(layer.weight, 0.1)
    return net


def zeros() -> nn.Module:
    net = mlp(3)
    for layer in linears(net):
        nn.init.zeros_(layer.weight)
    return net


def one_large_feature(x: Tensor) -> Tensor:
    return torch.cat([x[:, :5], 1e4 * x[:, 5:6], x[:, 6:]], 1)


@dataclass
class Case:
    """A broken network.

    Attributes:
        make: Makes it.
        code: The warning that tells the fault, which must be the first one.
        where: What the first warning names first, or None where it is about no layer.
        inputs: What is done to the inputs.
        targets: What is done to the targets.
        loss: The loss, from output and targets.
        lr: The learning rate of plain gradient descent that a healthy network learns with.
        learning_rate: The rate to audit and train with, where that is the fault.
        says: Words that the message must hold.
    """

    make: Callable[[], nn.Module]
    code: str
    where: str | None = None
    inputs: Callable[[Tensor], Tensor] = lambda x: x
    targets: Callable[[Tensor], Tensor] = lambda y: y
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    lr: float = 0.2
    learning_rate: float | None = None
    says: tuple[str, ...] = field(default=())


def mean_squared(output: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(output.squeeze(-1), target)


def as_regression(y: Tensor) -> Tensor:
    return 5000.0 + 3000.0 * (y == 1).float()


BROKEN: dict[str, Case] = {
    "exploding": Case(lambda: scaled(mlp(), 0.5), "signal", says=("per layer", "He")),
    "vanishing": Case(lambda: scaled(mlp(), 0.01), "signal", says=("per layer", "He")),
    "one bad layer": Case(one_bad_layer, "odd-layer", "8", lr=0.1),
    "one dead layer": Case(dead_layer, "dead", "8", says=("-6",)),
    "zeros": Case(zeros, "symmetric", "0.weight"),
    "constants": Case(constant, "symmetric", "0.weight"),
    "inputs of 0 to 255": Case(
        lambda: mlp(4), "inputs", inputs=lambda x: (x * 40 + 128).clamp(0, 255).round()
    ),
    "one feature of 10,000": Case(
        lambda: mlp(4), "inputs", inputs=one_large_feature, says=("feature 5",)
    ),
    "functional tanh saturated": Case(
        lambda: scaled(Functional(torch.tanh), 1.0), "saturated", "layers.0"
    ),
    "sigmoids": Case(lambda: mlp(10, nn.Sigmoid), "gradient"),
    "identical blocks": Case(cloned_blocks, "identical-layers"),
    "half of the units duplicated": Case(duplicated, "duplicate-units", "2.weight"),
    "one weight at 100 deviations": Case(outlier, "outliers", "2.weight"),
    "exploding in time": Case(lambda: Recurrent(2.8), "time", "rnn"),
    "softmax before cross-entropy": Case(Softmaxed, "softmax"),
    "unscaled targets": Case(
        lambda: mlp(4, outputs=1),
        "targets",
        targets=as_regression,
        loss=mean_squared,
        lr=0.05,
    ),
    "detached": Case(Detached, "detached", "body.0"),
    "all frozen": Case(lambda: mlp(4).requires_grad_(False), "frozen"),
    "learning rate": Case(lambda: mlp(3), "sharpness", learning_rate=30.0, says=("2/λ",)),
    "unused": Case(Unused, "unused", "spare"),
}
