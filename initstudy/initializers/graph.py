"""A model's data flow: which operation reads the result of which.

torch.fx reads it from the model's code. If it cannot (because the code branches on values, or takes
arguments apart), the flow is recorded while the model runs on a batch of inputs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from initstudy.initializers.kinds import kind

# Functions whose result depends on the size of a tensor and not on its values.
SIZES = {
    "size", "dim", "numel", "len", "new_zeros", "new_ones", "new_empty", "new_full", "new_tensor",
    "arange", "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like",
    "is_floating_point", "is_cuda", "element_size", "stride", "_assert",
}  # fmt: skip
SIZE_ATTRIBUTES = {"shape", "dtype", "device", "ndim", "requires_grad", "is_cuda", "layout"}


@dataclass(eq=False)
class Node:
    """One operation, with what it reads.

    Attributes:
        index: Its position in the order of execution.
        kind: "input", "module" or "function".
        name: The module's name in the model, or the function's own name.
        module: The module, of a "module".
        reads: The operations whose results it reads, as far as these depend on the inputs.
        parameters: The names of the parameters that it reads otherwise than through a module.
    """

    index: int
    kind: str
    name: str
    module: nn.Module | None = None
    reads: tuple[Node, ...] = ()
    parameters: tuple[str, ...] = ()


@dataclass
class Graph:
    """The data flow of a model, in the order of execution.

    Attributes:
        nodes: The operations that depend on the model's inputs.
    """

    nodes: list[Node] = field(default_factory=list)

    def add(
        self,
        kind: str,
        name: str,
        reads: Iterable[Node] = (),
        parameters: Iterable[str] = (),
        module: nn.Module | None = None,
    ) -> Node:
        """A new operation at the end.

        Args:
            kind: "input", "module" or "function".
            name: The module's or the function's name.
            reads: The operations whose results it reads.
            parameters: The names of the parameters that it reads.
            module: The module, of a "module".
        """
        node = Node(
            len(self.nodes),
            kind,
            name,
            module,
            tuple(dict.fromkeys(reads)),
            tuple(dict.fromkeys(parameters)),
        )
        self.nodes.append(node)
        return node


def trace(model: nn.Module, batch: object = None) -> Graph:
    """The data flow of a model.

    Args:
        model: Any module. It does not change.
        batch: Inputs to run the model on if its code cannot be read: a tensor, a tuple of
            positional arguments or a dict of keyword arguments. Models of transformers and timm
            say what inputs they take, so that none need be given.

    Raises:
        ValueError: The code cannot be read and there is no batch, or the model fails on it.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers.graph import trace
        >>> graph = trace(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
        >>> [node.name for node in graph.nodes]
        ['input_1', '0', '1']
    """
    with _evaluating(model):
        try:
            graph = _from_code(model)
            hidden = _wrapped()
            if not any(node.name in hidden and node.parameters for node in graph.nodes):
                return graph
            reason = "it calls functions that hide what they do"
        except Exception as error:
            # Tracing may raise anything, from the model's own code as well.
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return _from_runs(model, batch, reason)


def _from_runs(model: nn.Module, batch: object, reason: str) -> Graph:
    """The data flow of a run on the batch, or on the first inputs that seem right and are."""
    for inputs in [batch] if batch is not None else _likely_inputs(model):
        try:
            return _Recorder(model).run(*_arguments(inputs))
        except Exception as error:
            # A user's model may raise anything.
            if batch is not None:
                failed = f"{type(error).__name__}: {error}".splitlines()[0]
                raise ValueError(
                    f"init: the {type(model).__name__} fails on the batch: {failed}"
                ) from error
    raise ValueError(
        f"init: the data flow of the {type(model).__name__} cannot be read from its code "
        f"({reason}); give a batch of inputs to run it on"
    )


def _wrapped() -> set[str]:
    """The names of functions that torch.fx was told not to look into (`torch.fx.wrap`)."""
    wrapped = fx._symbolic_trace._wrapped_fns_to_patch
    return {name for _, name in wrapped}


def is_atomic(module: nn.Module) -> bool:
    """Whether a module is one operation: a layer, or another module of torch that is no container.

    Args:
        module: Any module.
    """
    own = type(module).__module__.startswith("torch.nn.") and not isinstance(
        module, nn.Sequential | nn.ModuleList | nn.ModuleDict
    )
    return own or kind(module) is not None


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_atomic(m)


def _from_code(model: nn.Module) -> Graph:
    if is_atomic(model):
        graph = Graph()
        graph.add("module", "", [graph.add("input", "input")], module=model)
        return graph
    traced = _Tracer().trace(model)
    graph, data = Graph(), dict[fx.Node, Node]()
    # What depends on parameters alone, such as a softplus of one.
    constants: dict[fx.Node, tuple[str, ...]] = {}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for node in traced.nodes:
        reads = [data[n] for n in node.all_input_nodes if n in data]
        names = [name for n in node.all_input_nodes for name in constants.get(n, ())]
        if node.op == "placeholder":
            data[node] = graph.add("input", node.name)
        elif node.op == "get_attr":
            constants[node] = (node.target,) if node.target in parameters else ()
        elif node.op == "call_module" and reads:
            module = model.get_submodule(str(node.target))
            data[node] = graph.add("module", str(node.target), reads, names, module)
        elif node.op in ("call_function", "call_method"):
            name = _name(node.target)
            sizes = name in SIZES or (name == "getattr" and node.args[1] in SIZE_ATTRIBUTES)
            if reads and not sizes:
                data[node] = graph.add("function", name, reads, names)
            else:
                constants[node] = tuple(names)
    return graph


def _name(target: Any) -> str:
    if isinstance(target, str):
        return target
    if target is operator.getitem:
        return "getitem"
    return str(getattr(target, "__name__", target)).strip("_")


class _Recorder(TorchFunctionMode):
    """Records the operations of a model while it runs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.graph = model, Graph()
        self.data: dict[int, Node] = {}
        self.constants: dict[int, tuple[str, ...]] = {
            id(parameter): (name,) for name, parameter in model.named_parameters()
        }
        # An id is that of a tensor only as long as the tensor lives.
        self.alive: list[Tensor] = []
        self.inside = 0

    def run(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Graph:
        for number, tensor in enumerate(_tensors((args, kwargs))):
            self._hold([tensor], self.graph.add("input", f"input{number}"))
        handles = []
        for name, module in self.model.named_modules():
            if is_atomic(module) and module is not self.model:
                handles.append(module.register_forward_pre_hook(self._enter))
                handles.append(module.register_forward_hook(self._leave(name), with_kwargs=True))
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]), self:
                self.model(*args, **kwargs)
        finally:
            for handle in handles:
                handle.remove()
        return self.graph

    def _enter(self, module: nn.Module, args: object) -> None:
        self.inside += 1

    def _leave(self, name: str) -> Callable[..., None]:
        def leave(module: nn.Module, args: object, kwargs: object, output: object) -> None:
            self.inside -= 1
            if self.inside == 0:
                reads = self._reads((args, kwargs))
                if reads:
                    node = self.graph.add("module", name, reads, module=module)
                    self._hold(_tensors(output), node)

        return leave

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        # In-place operations return what they have changed, so what is read is asked for before.
        reads = [] if self.inside else self._reads((args, kwargs))
        names = [] if self.inside else self._names((args, kwargs))
        output = func(*args, **kwargs)
        if self.inside:
            return output
        results = _tensors(output)
        name = _name(func)
        if reads and name not in SIZES and results:
            self._hold(results, self.graph.add("function", name, reads, names))
        elif results and names:
            self.alive += results
            self.constants.update({id(tensor): tuple(names) for tensor in results})
        return output

    def _reads(self, values: object) -> list[Node]:
        return [self.data[id(t)] for t in _tensors(values) if id(t) in self.data]

    def _names(self, values: object) -> list[str]:
        return [n for t in _tensors(values) for n in self.constants.get(id(t), ())]

    def _hold(self, tensors: list[Tensor], node: Node) -> None:
        self.alive += tensors
        self.data.update({id(tensor): node for tensor in tensors})


def _tensors(values: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, without the fused kernels that skip the modules of a transformer."""
    modes = {module: module.training for module in model.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    model.eval()
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, mode in modes.items():
            module.training = mode


def _arguments(batch: object) -> tuple[tuple[object, ...], Mapping[str, object]]:
    if isinstance(batch, Mapping):
        return (), batch
    return (tuple(batch), {}) if isinstance(batch, tuple | list) else ((batch,), {})


def _likely_inputs(model: nn.Module) -> Iterator[object]:
    """Inputs that a model may take: by its own word (transformers, timm), or by its first layer."""
    parameter = next(model.parameters(), None)
    device = None if parameter is None else parameter.device
    settings = getattr(model, "default_cfg", None)
    if isinstance(settings, Mapping) and "input_size" in settings:
        yield torch.zeros(1, *settings["input_size"], device=device)
    yield from _inputs_of_transformers(model, device)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            for side in (224, 64, 32):
                yield torch.zeros(1, module.in_channels, side, side, device=device)
        elif isinstance(module, nn.Linear):
            yield torch.zeros(1, module.in_features, device=device)
        elif isinstance(module, nn.Embedding):
            yield torch.zeros(1, 4, dtype=torch.long, device=device)
        else:
            continue
        return


def _inputs_of_transformers(
    model: nn.Module, device: torch.device | None
) -> Iterator[dict[str, Tensor]]:
    config: Any = getattr(model, "config", None)
    main = getattr(model, "main_input_name", None)
    tokens = torch.zeros(1, 4, dtype=torch.long, device=device)
    decoded = {"decoder_input_ids": tokens} if getattr(config, "is_encoder_decoder", False) else {}
    if main == "input_ids":
        yield {main: tokens, **decoded}
    elif main == "input_features" and hasattr(config, "num_mel_bins"):
        frames = 2 * config.max_source_positions
        yield {main: torch.zeros(1, config.num_mel_bins, frames, device=device), **decoded}
    elif main == "input_values":
        yield {main: torch.zeros(1, 4000, device=device)}
    elif main == "pixel_values":
        side = getattr(config, "image_size", 224)
        sides = tuple(side) if isinstance(side, list | tuple) else (side, side)
        channels = getattr(config, "num_channels", 3)
        yield {main: torch.zeros(1, channels, *sides, device=device)}
