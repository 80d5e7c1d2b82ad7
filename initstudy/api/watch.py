"""Statistics of every layer in a training loop of one's own.

The statistics are those of a study (docs/columns.md): hooks keep what a forward and a backward pass
make of each layer, at the cadence of the probes, and `collect` measures it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from initstudy.columns import Preset
from initstudy.probes import statistics
from initstudy.probes.forward import Tensors, first_tensor
from initstudy.probes.layers import Layer, find_layers
from initstudy.trees import TensorTree

Values = dict[str, float | list[int]]


class Watch:
    """Measures a model's layers while its owner trains it.

    Within the context every forward pass in training mode, and the backward pass through it, is
    observed if `due` says so. What is kept belongs to the last such pass: with several passes per
    update (accumulated gradients) it is the last one.

    Args:
        model: The model. It stays as it is, and keeps its device and its random numbers.
        preset: "basic" or "full"; "off" observes nothing.
        due: Asked before a forward pass whether to observe it.

    Attributes:
        layers: The layers, found at the first forward pass; empty before it.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
        >>> with Watch(net) as watch:
        ...     net(torch.randn(8, 4)).square().mean().backward()
        >>> sorted(watch.collect())[:2]
        ['activation/0/absmax', 'activation/0/dead']
    """

    def __init__(
        self, model: nn.Module, preset: Preset = "basic", due: Callable[[], bool] = lambda: True
    ) -> None:
        self.model = model
        self.preset = preset
        self.due = due
        self.layers: list[Layer] = []
        self._weights: set[str] = set()
        self._found = False
        self._observing = False
        self._handles: list[RemovableHandle] = []
        self._outputs: Tensors = {}
        self._gradients: Tensors = {}
        self._before: Tensors = {}
        self._parameter_gradients: Tensors = {}

    def __enter__(self) -> Watch:
        if self.preset != "off":
            hook = self.model.register_forward_pre_hook(self._begin, with_kwargs=True, prepend=True)
            self._handles.append(hook)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @property
    def observed(self) -> bool:
        """Whether there is something to collect."""
        return bool(self._gradients)

    def collect(self) -> Values:
        """The statistics of what was observed since the last call; empty if nothing was.

        Ratios of updates are measured against the parameters as they are now, so that this is
        called behind the optimizer's step.
        """
        complete = [
            layer
            for layer in self.layers
            if layer.output in self._gradients
            and all(name in self._parameter_gradients for name in layer.weights)
        ]
        if not complete:
            return {}
        names = [name for layer in complete for name in layer.weights]
        outputs = [layer.output for layer in complete]
        before = self._of_one_member(self._before, names)
        measured = statistics.measure(
            complete,
            self._of_one_member(self._outputs, outputs),
            self._of_one_member(self._gradients, outputs),
            before,
            self._of_one_member(self._parameter_gradients, names),
            full=self.preset == "full",
        )
        now = dict(self.model.named_parameters())
        after = self._of_one_member({name: now[name].detach() for name in names}, names)
        measured |= statistics.update_ratios(complete, before, after, measured)
        self._forget()
        return {name: value[0].tolist() for name, value in measured.items()}

    @staticmethod
    def _of_one_member(values: Mapping[str, Tensor], names: list[str]) -> Tensors:
        return {name: values[name][None] for name in names}

    def _begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a forward pass of the whole model: whether it is to be observed."""
        self._observing = module.training and torch.is_grad_enabled() and self.due()
        if not self._observing:
            return
        if not self._found:
            self._find(args, kwargs)
        self._forget()
        self._before = {
            name: parameter.detach().clone()
            for name, parameter in module.named_parameters()
            if name in self._weights
        }

    def _find(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Finds the layers and hooks them; a model that cannot be run twice alike has none."""
        self._found = True
        with torch.random.fork_rng(), torch.no_grad():
            # It runs the model, whose own first hook this is.
            self._observing = False
            handles, self._handles = self._handles, []
            for handle in handles:
                handle.remove()
            self.layers = find_layers(self.model, _inputs(self.model, args, kwargs))
            again = self.model.register_forward_pre_hook(
                self._begin, with_kwargs=True, prepend=True
            )
            self._handles = [again]
        self._observing = True
        self._weights = {name for layer in self.layers for name in layer.weights}
        for layer in self.layers:
            module = self.model.get_submodule(layer.output)
            self._handles.append(
                module.register_forward_hook(
                    lambda _module, _args, output, name=layer.output: self._keep(name, output)
                )
            )
        for name, parameter in self.model.named_parameters():
            if name in self._weights and parameter.requires_grad:
                self._handles.append(
                    parameter.register_post_accumulate_grad_hook(
                        lambda owner, name=name: self._keep_gradient(name, owner)
                    )
                )

    def _keep(self, name: str, output: object) -> None:
        if not self._observing or name in self._outputs:
            return
        tensor = first_tensor(output)
        # A copy: the next module may work in place.
        self._outputs[name] = tensor.detach().clone()
        if tensor.requires_grad:
            tensor.register_hook(lambda gradient: self._keep_output_gradient(name, gradient))

    def _keep_output_gradient(self, name: str, gradient: Tensor) -> None:
        # Nothing is returned: what a hook returns takes the gradient's place.
        self._gradients.setdefault(name, gradient.detach().clone())

    def _keep_gradient(self, name: str, parameter: Tensor) -> None:
        if self._observing and parameter.grad is not None:
            self._parameter_gradients[name] = parameter.grad.detach().clone()

    def _forget(self) -> None:
        self._outputs, self._gradients = {}, {}
        self._before, self._parameter_gradients = {}, {}


def _inputs(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> TensorTree:
    """The tensors with which a model is called, by name if any of them is given by name."""
    if not kwargs:
        return args[0] if len(args) == 1 else args
    given = inspect.signature(model.forward).bind(*args, **kwargs).arguments
    return {name: value for name, value in given.items() if isinstance(value, Tensor)}
