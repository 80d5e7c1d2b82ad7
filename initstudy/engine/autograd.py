"""Any PyTorch model: `vmap` over the members, or one member after another.

`torch.func.vmap` of `torch.func.functional_call` runs all members together (the model ensembling of
https://docs.pytorch.org/tutorials/intermediate/ensembling.html). A model that it does not take runs
one member after another. Both differentiate through autograd.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from initstudy.engine.contract import Batch, Capabilities, Engine
from initstudy.engine.eager import EagerEngine, Pass
from initstudy.engine.losses import CROSS_ENTROPY, Loss, Losses
from initstudy.engine.optimizers import SGD, Optimizer
from initstudy.engine.refusal import describe
from initstudy.engine.stack import Stack, Tensors
from initstudy.engine.workload import Workload
from initstudy.probes.forward import as_written, first_tensor, hooked
from initstudy.probes.layers import Layer
from initstudy.trees import TensorTree, arguments, at, leaves, map_tensors, stacked

# Why a model does not train in one program, if that is why.
DRAWS = "draws random numbers"


# The layers whose batching rules make the members further channels of one kernel.
FOLDED_BY_VMAP = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)


class AutogradEngine(EagerEngine):
    """What the engines of this module have in common."""

    @abstractmethod
    def outputs(self, inputs: TensorTree, taps: Tensors) -> tuple[TensorTree, Tensors]:
        """Runs every member on its own batch, in the model's current mode.

        Args:
            inputs: A batch for each member, tensors `[members, batch, ...]`; a batch that all share
                may be an expanded view.
            taps: For the names of some modules a tensor with the shape of the module's stacked
                output, to be added to it. The gradient with respect to a tap of zeros is the
                gradient with respect to the output.

        Returns:
            What the loss takes of the members' outputs, tensors `[members, batch, ...]`, and by
            name the stacked output of every tapped module after the addition.
        """

    def differentiate(self, batch: Batch, layers: Sequence[Layer] = ()) -> Pass:
        """See `EagerEngine.differentiate`."""
        stack = self.stack
        inputs, targets = (_each(tree, stack.size) for tree in batch)
        examples = next(leaves(inputs)).shape[1]
        taps = {
            layer.output: torch.zeros(
                stack.size, examples, *layer.shape, device=stack.device, requires_grad=True
            )
            for layer in layers
        }
        outputs, activations = self.outputs(inputs, taps)
        loss = self._per_example(outputs, targets).mean(1)
        by = [*stack.params.values(), *taps.values()]
        # A parameter that the model never uses has a gradient of zero.
        gradients = torch.autograd.grad(loss.sum(), by, materialize_grads=True)
        by_params, by_taps = gradients[: len(stack.params)], gradients[len(stack.params) :]
        torch._foreach_copy_(stack.grads, by_params)
        scores = self._score(map_tensors(torch.detach, outputs), targets)
        return Pass(
            Losses(loss.detach(), scores.metrics),
            stack.grads,
            {name: activation.detach() for name, activation in activations.items()},
            dict(zip(taps, by_taps, strict=True)),
        )

    def measure(self, chunk: Batch) -> Losses:
        """See `EagerEngine.measure`."""
        size = self.stack.size
        inputs, targets = (_each(map_tensors(lambda t: t[None], tree), size) for tree in chunk)
        outputs, _ = self.outputs(inputs, {})
        return self._score(outputs, targets)

    def _per_example(
        self, outputs: TensorTree, targets: TensorTree
    ) -> Float[Tensor, "members batch"]:
        return self.loss.per_example(outputs, targets)

    def _score(self, outputs: TensorTree, targets: TensorTree) -> Losses:
        return self.loss.score(outputs, targets)

    def _member(
        self, params: Tensors, buffers: Tensors, inputs: TensorTree, taps: Tensors
    ) -> tuple[TensorTree, Tensors]:
        """What the loss takes of one member's outputs, and those of its tapped modules."""
        positional, keywords = arguments(inputs)
        with tapped(self.stack.model, taps) as activations:
            output = functional_call(self.stack.model, (params, buffers), positional, keywords)
        return self.loss.pick(output), activations


class Vmap(AutogradEngine):
    """All members in one program, by `torch.func.vmap`."""

    capabilities: ClassVar = Capabilities(
        name="vmap",
        purpose="torch.func.vmap over the members, differentiated by autograd",
        modules=None,
        any_forward=False,
        optimizers=None,
        losses=None,
        # Under `vmap` linear layers would go on in float32, as if nothing had been asked.
        precisions=("highest", "tf32"),
        probes=("basic", "full"),
        devices=("cpu", "cuda"),
        together=True,
        folded=FOLDED_BY_VMAP,
    )

    @classmethod
    def refusal(cls, workload: Workload) -> str | None:
        """See `EngineKind.refusal`; runs two members on the example, forward and back."""
        if workload.members == 1:
            return "a single run gains nothing from it"
        return not_vectorizable(workload)

    def outputs(self, inputs: TensorTree, taps: Tensors) -> tuple[TensorTree, Tensors]:
        """See `AutogradEngine.outputs`."""
        stack = self.stack
        modules = stack.model.modules()
        recurrent = any(isinstance(module, nn.RNNBase | nn.RNNCellBase) for module in modules)
        with as_written(recurrent=recurrent):
            function = self._decomposed if recurrent else self._member
            return vmap(function)(stack.every_param, stack.buffers, inputs, taps)

    def _decomposed(
        self, params: Tensors, buffers: Tensors, inputs: TensorTree, taps: Tensors
    ) -> tuple[TensorTree, Tensors]:
        """`_member` in the basic operations that have batching rules.

        The fused kernels of recurrent layers have none. A gradient transform takes them apart; its
        own gradient is not used.
        """
        return vjp(lambda p: self._member(p, buffers, inputs, taps), params)[0]


class OneByOne(AutogradEngine):
    """One member after another, as a plain PyTorch loop does."""

    capabilities: ClassVar = Capabilities(
        name="one by one",
        purpose="one run after another, as in a plain PyTorch loop",
        modules=None,
        any_forward=True,
        optimizers=None,
        losses=None,
        precisions=("highest", "tf32", "bf16"),
        probes=("basic", "full"),
        devices=("cpu", "cuda"),
        together=False,
    )

    def __init__(
        self,
        stack: Stack,
        optimizer: Optimizer,
        layers: Sequence[Layer] = (),
        loss: Loss = CROSS_ENTROPY,
        *,
        bf16: bool = False,
    ) -> None:
        super().__init__(stack, optimizer, layers, loss)
        self.bf16 = bf16

    @classmethod
    def build(
        cls, workload: Workload, stack: Stack, optimizer: Optimizer, layers: Sequence[Layer]
    ) -> Engine:
        """See `EngineKind.build`."""
        return cls(stack, optimizer, layers, workload.loss, bf16=workload.precision == "bf16")

    def alone(self, member: int) -> Engine:
        """See `Engine.alone`."""
        stack = self.stack.select([member])
        return OneByOne(stack, self.optimizer, self.layers, self.loss, bf16=self.bf16)

    @classmethod
    def refusal(cls, workload: Workload) -> str | None:
        """See `EngineKind.refusal`; it takes everything."""
        return None

    def outputs(self, inputs: TensorTree, taps: Tensors) -> tuple[TensorTree, Tensors]:
        """See `AutogradEngine.outputs`."""
        stack = self.stack
        trees = (stack.every_param, stack.buffers, inputs, taps)
        autocast = torch.autocast(stack.device.type, torch.bfloat16, enabled=self.bf16)
        with as_written(), autocast:
            members = [self._member(*(at(tree, i) for tree in trees)) for i in range(stack.size)]
        outputs, activations = stacked([o for o, _ in members]), stacked([a for _, a in members])
        if not self.bf16:
            return outputs, activations
        # Losses and statistics are taken in single precision.
        return map_tensors(_single, outputs), map_tensors(_single, activations)

    def _per_example(
        self, outputs: TensorTree, targets: TensorTree
    ) -> Float[Tensor, "members batch"]:
        alone = range(self.stack.size)
        return torch.cat(
            [super(OneByOne, self)._per_example(*_only(i, outputs, targets)) for i in alone]
        )

    def _score(self, outputs: TensorTree, targets: TensorTree) -> Losses:
        scores = [
            super(OneByOne, self)._score(*_only(i, outputs, targets))
            for i in range(self.stack.size)
        ]
        metrics = [score.metrics for score in scores]
        return Losses(
            torch.cat([score.loss for score in scores]),
            {name: torch.cat([each[name] for each in metrics]) for name in metrics[0]},
        )

    def state(self) -> Tensors:
        """See `Engine.state`; holds the state of the random generators too."""
        # Only models that this engine trains may draw random numbers as they train.
        device = self.stack.device
        generators = {"rng": torch.get_rng_state()}
        if device.type == "cuda":
            generators["rng/cuda"] = torch.cuda.get_rng_state(device)
        return super().state() | generators

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """See `Engine.restore`."""
        super().restore(tensors)
        torch.set_rng_state(tensors["rng"])
        if "rng/cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng/cuda"], self.stack.device)


@contextmanager
def tapped(model: nn.Module, taps: Mapping[str, Tensor]) -> Iterator[Tensors]:
    """Adds each tap to its module's output and yields the outputs, by name, once they exist.

    A module that is called more than once is tapped at its first call.
    """
    outputs: Tensors = {}

    def tap(name: str, _module: nn.Module, output: object) -> object:
        if name in outputs:
            return None
        value = first_tensor(output)
        outputs[name] = value + taps[name].to(value.dtype)
        # Recurrent layers return a tensor or a tuple of tensors besides, and attention returns None
        # if nobody needs its weights.
        return (outputs[name], *output[1:]) if isinstance(output, tuple) else outputs[name]

    with hooked({name: model.get_submodule(name) for name in taps}, tap):
        yield outputs


def not_vectorizable(workload: Workload) -> str | None:
    """Why `vmap` cannot run a model and its loss, in one line, or None if it can.

    A model that draws random numbers, such as with dropout, counts as one that cannot: a member's
    numbers would depend on the other members.
    """
    model = workload.model
    params = {name: param.detach() for name, param in model.named_parameters()}
    device = next(leaves(workload.example)).device
    stack = Stack(model, [params] * 2, device=device)
    engine = Vmap(stack, SGD(list(stack.params.values()), lr=0.0), loss=workload.loss)
    inputs = map_tensors(lambda tensor: torch.stack([tensor, tensor]), workload.example)
    training = model.training
    try:
        with _entered(model) as entered:
            outputs, _ = engine.outputs(inputs, {})
            total = sum(tensor.sum() for tensor in leaves(outputs))
            torch.autograd.grad(total, list(stack.params.values()), allow_unused=True)
            model.eval()
            with torch.no_grad():
                outputs, _ = engine.outputs(inputs, {})
        if workload.targets is not None:
            targets = map_tensors(lambda t: torch.stack([t, t]), workload.targets)
            with torch.no_grad():
                engine.loss.score(outputs, targets)
    except Exception as error:
        # Under `vmap` a user's model may raise anything; one by one it may still train.
        message = next(iter(str(error).strip().splitlines()), type(error).__name__)
        title = describe("", entered[-1]) if entered else "the model or its loss"
        return f"{title} {DRAWS}" if "random" in message else f"{title}: {message}"
    finally:
        model.train(training)
    return None


@contextmanager
def _entered(model: nn.Module) -> Iterator[list[nn.Module]]:
    """The modules that are running, the innermost one last; an error leaves them in the list."""
    entered: list[nn.Module] = []

    def enter(module: nn.Module, _args: object) -> None:
        entered.append(module)

    def leave(_module: nn.Module, _args: object, _output: object) -> None:
        entered.pop()

    handles = [module.register_forward_pre_hook(enter) for module in model.modules()]
    handles += [module.register_forward_hook(leave) for module in model.modules()]
    try:
        yield entered
    finally:
        for handle in handles:
            handle.remove()


def _single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def _only(index: int, *trees: TensorTree) -> list[TensorTree]:
    """One member of each, along an axis of length 1."""
    return [map_tensors(lambda tensor: tensor[index : index + 1], tree) for tree in trees]


def _each(groups: TensorTree, members: int) -> TensorTree:
    """The batch of each member, from that of each group of neighbours."""

    def each(tensor: Shaped[Tensor, "groups batch ..."]) -> Tensor:
        if len(tensor) == 1:
            return tensor.expand(members, *tensor.shape[1:])
        times = members // len(tensor)
        return tensor.repeat_interleave(times, 0) if len(tensor) < members else tensor

    return map_tensors(each, groups)
