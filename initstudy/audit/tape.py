"""What runs in a forward pass: layers, normalizations, activation functions and losses.

Modules are seen by hooks, and functions (`F.relu`, `x @ self.weight`) by a `TorchFunctionMode`, so
that no code has to be read: a model may branch on values, take dicts apart and call what it likes.
Every tensor carries the index of the last layer that it comes from, for as long as it lives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from initstudy.audit.tensors import is_real, moments, rms
from initstudy.initializers import WEIGHTED, kind
from initstudy.initializers.parametrized import computed

Limits = tuple[float, float]
_INF = float("inf")
# Activation functions by the name of torch's function, with the values that they approach but do
# not pass. Zero is a limit of ReLU6 only as it is one of ReLU, whose zeros are no saturation.
ACTIVATIONS: dict[str, Limits | None] = {
    "relu": None,
    "relu6": (-_INF, 6.0),
    "leaky_relu": None,
    "prelu": None,
    "rrelu": None,
    "gelu": None,
    "silu": None,
    "mish": None,
    "softplus": None,
    "hardswish": None,
    "glu": None,
    "sin": None,
    "tanh": (-1.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "selu": (-1.7580993408473766, _INF),
    "elu": (-1.0, _INF),
    "celu": (-1.0, _INF),
}
NORMS = {
    "layer_norm", "batch_norm", "group_norm", "instance_norm", "rms_norm", "normalize",
    "local_response_norm",
}  # fmt: skip
PRODUCTS = {
    "linear", "matmul", "mm", "bmm", "addmm", "einsum", "conv1d", "conv2d", "conv3d",
    "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "bilinear", "embedding",
}  # fmt: skip
LOSSES = {
    "cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss",
    "binary_cross_entropy", "binary_cross_entropy_with_logits",
}  # fmt: skip
ADDITIONS = {"add", "iadd", "radd", "sub", "isub", "rsub"}
# The outputs of a layer's calls that are kept for their gradients.
CALLS = 512


@dataclass
class Reading:
    """One layer during one forward pass.

    Attributes:
        name: The module's name, or that of the parameter that a function multiplies by.
        module: The module, or None for a product outside of one.
        weights: The tensors that multiply, by name.
        reads_input: Whether it reads the model's inputs, through no other layer.
        input_normalized: Whether what it reads has been normalized and nothing added since.
        input_rms: The root mean square of what it reads; None of indices.
        output_rms: That of what it returns.
        normalized: Whether a normalization follows, before any activation function.
        activation: The name of the activation function that follows, or None.
        limits: The values at which it saturates, or None.
        output: The name of the module or function whose result is `after`.
        before_rms: The root mean square of the activation function's argument.
        after: The result of the activation function, or of the layer where none follows.
        units: The axis of the units in `after`.
        calls: How many times it ran.
        outputs: What it returned each time.
        argument: What a recurrent layer read the first time.
    """

    name: str
    module: nn.Module | None
    weights: dict[str, Tensor]
    reads_input: bool
    input_normalized: bool
    input_rms: float | None
    output_rms: float = 0.0
    normalized: bool = False
    activation: str | None = None
    limits: Limits | None = None
    output: str = ""
    before_rms: float = 0.0
    after: Tensor | None = None
    units: int = -1
    calls: int = 1
    outputs: list[Tensor] = field(default_factory=list)
    argument: Tensor | None = None


@dataclass(frozen=True)
class LossCall:
    """A loss function of torch that ran.

    Attributes:
        name: The function's name.
        output_rms: The root mean square of its first argument.
        probabilities: Whether the rows of its first argument are probabilities that sum to one.
        target_mean: The mean of real targets; None of labels.
        target_std: Their standard deviation.
    """

    name: str
    output_rms: float
    probabilities: bool
    target_mean: float | None
    target_std: float | None


@dataclass(frozen=True)
class _Origin:
    """Where a tensor comes from: the last layer (-1: the inputs), and if through a norm."""

    layer: int
    normalized: bool = False


class Tape(TorchFunctionMode):
    """Records a forward pass of a model while it is open.

    Args:
        model: The model.
        inputs: The tensors that it is given.
        attention: Whether to keep the scores of attention.
    """

    def __init__(self, model: nn.Module, inputs: list[Tensor], *, attention: bool = False) -> None:
        super().__init__()
        self.attention = attention
        self.model = model
        self.readings: list[Reading] = []
        self.losses: list[LossCall] = []
        self.scores: list[tuple[str, Tensor]] = []
        self.called: set[str] = set()
        self.read: set[str] = set()
        self.by_name: dict[str, int] = {}
        self.origin: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        for tensor in inputs:
            self.origin[tensor] = _Origin(-1)
        self.parameters: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        for name, parameter in model.named_parameters():
            self.parameters[parameter] = name
        self.computed: dict[int, list[str]] = {}
        for _, module, key, _ in computed(model):
            self.computed.setdefault(id(module), []).append(key)
        self.stack: list[tuple[str, nn.Module]] = []
        self.layers_open = 0
        self.busy = False

    def __enter__(self) -> Tape:
        self.handles = []
        for name, module in self.model.named_modules():
            enter, leave = self._hooks(name)
            self.handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            self.handles.append(module.register_forward_hook(leave, with_kwargs=True))
        super().__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        for handle in self.handles:
            handle.remove()

    def _hooks(self, name: str) -> tuple[Any, Any]:
        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            self.called.add(name)
            self.stack.append((name, module))
            if _is_layer(module):
                self.layers_open += 1

        def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            while self.stack and self.stack.pop()[1] is not module:
                pass
            self.busy = True
            try:
                if _is_layer(module):
                    self.layers_open -= 1
                    if self.layers_open == 0:
                        self._layer(name, module, _tensors((args, kwargs)), output)
                elif self.layers_open == 0:
                    self._module(name, module, _tensors((args, kwargs)), output)
            finally:
                self.busy = False

        return enter, leave

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        if self.busy:
            return func(*args, **kwargs)
        self.busy = True
        try:
            name = str(getattr(func, "__name__", "")).strip("_")
            reads = _tensors((args, kwargs))
            before = self._before(name, reads)
            if name in LOSSES and len(reads) > 1:
                self.losses.append(_loss(name, reads[0], reads[1]))
            if self.attention and name in ("softmax", "scaled_dot_product_attention"):
                self._attention(name, reads, kwargs)
            output = func(*args, **kwargs)
            # An assignment to entries returns nothing, and changes what it assigns to.
            results = [reads[0]] if name == "setitem" and reads else _tensors(output)
            if results:
                self._function(name, reads, results, before)
            return output
        finally:
            self.busy = False

    @torch.no_grad()
    def _attention(self, name: str, reads: list[Tensor], kwargs: dict[str, Any]) -> None:
        """Keeps the scores that attention applies its softmax to."""
        inside = self.stack[-1][0] if self.stack else ""
        if name == "softmax":
            if reads and reads[0].dim() > 2 and reads[0] in self.origin:
                self.scores.append((f"{inside} scores", reads[0].detach()))
        elif len(reads) > 1:
            query, key = reads[:2]
            scale = kwargs.get("scale") or query.shape[-1] ** -0.5
            self.scores.append((f"{inside} scores", query @ key.transpose(-1, -2) * scale))

    def _before(self, name: str, reads: list[Tensor]) -> float | None:
        """The size of an activation function's argument, which it may overwrite."""
        reading = self._reading_of(reads)
        fits = name in ACTIVATIONS and self.layers_open == 0 and reading is not None
        return rms(reads[0]) if fits and reading and reading.activation is None else None

    def _function(
        self, name: str, reads: list[Tensor], results: list[Tensor], before: float | None
    ) -> None:
        parameters = [p for t in reads for p in self._parameters_of(t)]
        self.read.update(parameters)
        origins = [self.origin[t] for t in reads if t in self.origin]
        if not origins:
            if parameters and not self.layers_open:
                for tensor in results:
                    self.parameters.setdefault(tensor, ",".join(parameters))
            return
        if name in PRODUCTS and parameters and not self.layers_open:
            self._product(name, parameters, reads, results[0])
            return
        latest = max(origins, key=lambda origin: origin.layer)
        normalized = any(o.normalized for o in origins)
        if name in ADDITIONS and len(origins) > 1:
            normalized = all(o.normalized for o in origins)
        origin = _Origin(latest.layer, normalized)
        reading = self._reading_of(reads)
        if name in NORMS:
            origin = _Origin(latest.layer, True)
            if reading is not None and reading.activation is None:
                reading.normalized = True
        elif before is not None and reading is not None:
            self._activation(reading, name, results[0], before, ACTIVATIONS[name])
        for tensor in results:
            self.origin[tensor] = origin

    def _activation(
        self, reading: Reading, name: str, result: Tensor, before: float, limits: Limits | None
    ) -> None:
        inside, module = self.stack[-1] if self.stack else ("", None)
        leaf = module is not None and next(module.children(), None) is None
        known = leaf and module is not None and name in type(module).__name__.lower()
        reading.activation, reading.limits = name, limits
        reading.output = inside if known else f"{name}()"
        reading.before_rms, reading.after = before, result

    def _parameters_of(self, tensor: Tensor) -> list[str]:
        return self.parameters[tensor].split(",") if tensor in self.parameters else []

    def _reading_of(self, tensors: list[Tensor]) -> Reading | None:
        """The layer that a tensor comes from, the last one if there are several."""
        last = max((self.origin[t].layer for t in tensors if t in self.origin), default=-1)
        return self.readings[last] if last >= 0 else None

    def _module(self, name: str, module: nn.Module, reads: list[Tensor], output: Any) -> None:
        """A module that is no layer: a normalization, or an activation function of its own."""
        results = _tensors(output)
        if not results or not reads:
            return
        if is_norm(module):
            for tensor in results:
                origin = self.origin.get(tensor, _Origin(-1))
                self.origin[tensor] = _Origin(origin.layer, True)
            reading = self._reading_of(results)
            if reading is not None and reading.activation is None:
                reading.normalized = True
        elif _is_activation(module) and len(results) == 1 and results[0].shape == reads[0].shape:
            reading = self._reading_of(results)
            if reading is not None and reading.after is not results[0] and is_real(results[0]):
                # What runs inside, as tanh does in an approximation of GELU, is a part of it.
                if reading.activation is None:
                    reading.before_rms = reading.output_rms
                reading.activation, reading.limits = type(module).__name__.lower(), None
                reading.output, reading.after = name, results[0]

    def _layer(self, name: str, module: nn.Module, reads: list[Tensor], output: Any) -> None:
        results = _tensors(output)
        result = next((t for t in results if t.is_floating_point()), None)
        if result is None:
            return
        weights = {f"{name}.{key}".removeprefix("."): value for key, value in self._weights(module)}
        axis = -1 - len(module.kernel_size) if isinstance(module, nn.modules.conv._ConvNd) else -1
        self._add(name, module, weights, reads, result, axis)
        for tensor in results:
            self.origin[tensor] = self.origin[result]

    def _weights(self, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
        for key, value in module.named_parameters(recurse=True):
            inner = "parametrizations." in key or key.endswith(("_orig", "weight_g", "weight_v"))
            if value.dim() > 1 and not inner:
                yield key, value
        for key in self.computed.get(id(module), []):
            value = getattr(module, key)
            if value.dim() > 1:
                yield key, value

    def _product(
        self, name: str, parameters: list[str], reads: list[Tensor], result: Tensor
    ) -> None:
        """A product with a parameter outside of a layer."""
        matrices = [t for t in reads if self._parameters_of(t) and t.dim() > 1]
        if not matrices:
            return
        weight = matrices[0]
        called = self._parameters_of(weight)[0]
        layer = called.removesuffix(".weight")
        if layer in self.by_name and self.readings[self.by_name[layer]].module is not None:
            # A language model's output that multiplies by its embedding.
            layer = f"{name}({called})"
        spatial = int(name[-2]) if name.startswith("conv") else 0
        inputs = [t for t in reads if t in self.origin]
        self._add(layer, None, {called: weight}, inputs, result, -1 - spatial)

    def _add(
        self,
        name: str,
        module: nn.Module | None,
        weights: dict[str, Tensor],
        reads: list[Tensor],
        result: Tensor,
        units: int,
    ) -> None:
        if name in self.by_name:
            index = self.by_name[name]
            reading = self.readings[index]
            reading.calls += 1
            if len(reading.outputs) < CALLS:
                reading.outputs.append(result)
            self.origin[result] = _Origin(index)
            return
        origins = [self.origin[t] for t in reads if t in self.origin]
        real = [t for t in reads if is_real(t) and t in self.origin]
        size = rms(result) if is_real(result) else 0.0
        reading = Reading(
            name,
            module,
            weights,
            reads_input=bool(origins) and all(o.layer < 0 for o in origins),
            input_normalized=any(o.normalized for o in origins),
            input_rms=rms(real[0]) if real else None,
            output_rms=size,
            output=name,
            before_rms=size,
            after=result,
            units=units,
            outputs=[result],
            argument=real[0].detach() if real and isinstance(module, nn.RNNBase) else None,
        )
        self.by_name[name] = len(self.readings)
        self.readings.append(reading)
        self.origin[result] = _Origin(self.by_name[name])


def _tensors(values: object) -> list[Tensor]:
    found = []
    for leaf in tree_leaves(values):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif isinstance(leaf, PackedSequence):
            found.append(leaf.data)
    return found


def _is_layer(module: nn.Module) -> bool:
    return kind(module) in WEIGHTED


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalizes: by its class, or by the name of another library's class.

    Args:
        module: Any module.
    """
    return kind(module) == "norm" or "norm" in type(module).__name__.lower()


def _is_activation(module: nn.Module) -> bool:
    """Whether a module may be an activation function of the user's own or of another library."""
    if next(module.children(), None) is not None or next(module.parameters(), None) is not None:
        return False
    name = type(module).__name__.lower()
    called = ("act", "elu", "swish", "silu", "mish", "tanh", "sigmoid", "sine", "squared")
    return any(word in name for word in called) and "torch.nn" not in type(module).__module__


@torch.no_grad()
def _loss(name: str, output: Tensor, target: Tensor) -> LossCall:
    rows = output.detach().double()
    probabilities = False
    if name == "cross_entropy" and rows.dim() > 1 and rows.shape[1] > 1:
        sums = rows.sum(1)
        close = torch.allclose(sums, torch.ones_like(sums), atol=1e-4)
        probabilities = close and bool((rows >= 0).all())
    if not target.is_floating_point() or "entropy" in name or name == "nll_loss":
        return LossCall(name, rms(output), probabilities, None, None)
    found = moments(target)
    return LossCall(name, rms(output), probabilities, found.mean, found.std)
