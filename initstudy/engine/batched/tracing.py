"""Which modules a model calls, one after another."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from initstudy.engine.batched.purity import check_only_calls_layers
from initstudy.engine.refusal import RefusedError

Calls = list[tuple[str, nn.Module]]

# Functions that users call between layers, as the modules that do the same. The further arguments
# have the same names in both.
FUNCTIONS: dict[Any, type[nn.Module]] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, "relu", "relu_"), nn.ReLU),
    **dict.fromkeys((torch.tanh, torch.tanh_, "tanh", "tanh_"), nn.Tanh),
    **dict.fromkeys((torch.sigmoid, torch.sigmoid_, "sigmoid", "sigmoid_"), nn.Sigmoid),
    F.gelu: nn.GELU,
    F.selu: nn.SELU,
    F.elu: nn.ELU,
    F.celu: nn.CELU,
    F.silu: nn.SiLU,
    F.mish: nn.Mish,
    F.softplus: nn.Softplus,
    F.leaky_relu: nn.LeakyReLU,
    F.max_pool2d: nn.MaxPool2d,
    F.avg_pool2d: nn.AvgPool2d,
    **dict.fromkeys((torch.flatten, "flatten"), nn.Flatten),
}


def calls(model: nn.Module) -> Calls:
    """The modules in the order of their calls, functions included.

    A function has no name in the model, and neither has a second call of one module; both get a
    name that no module can have, with a colon in it.

    Raises:
        RefusedError: The modules are not called one after another, or more happens besides.
    """
    for name, module in model.named_modules():
        if _is_patched(module):
            raise RefusedError(f"{name or 'the model'} has a hook or a forward of its own")
    check_only_calls_layers(model, FUNCTIONS)
    training = model.training
    try:
        in_training, in_evaluation = _traced(model.train()), _traced(model.eval())
    finally:
        model.train(training)
    if repr(in_training) != repr(in_evaluation):
        raise RefusedError("its forward does other things in evaluation mode")
    return in_training


def _is_patched(module: nn.Module) -> bool:
    """Whether a call of the module does more than its class says."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return any(hooks) or "forward" in vars(module)


class _Tracer(fx.Tracer):
    """Takes a user's subclass of one of torch's layers as one call, which no kernel then takes."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        kinds = set(type(m).__mro__) - {nn.Module, nn.Sequential}
        return any(kind.__module__.startswith("torch.nn.") for kind in kinds)


def _traced(model: nn.Module) -> Calls:
    try:
        graph = _Tracer().trace(model)
    except Exception as error:
        # What a model does while it is traced with a stand-in may fail in any way.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise RefusedError(f"its forward cannot be traced: {reason[0]}") from error
    traced: Calls = []
    names: set[str] = set()
    last: fx.Node | None = None
    for node in graph.nodes:
        if node.op == "placeholder" and last is None:
            last = node
            continue
        if node.op == "placeholder" or last is None:
            raise RefusedError("its forward takes several inputs")
        if len(node.all_input_nodes) > 1:
            raise RefusedError(f"{_title(node)} joins several branches of its forward")
        if node.all_input_nodes != [last]:
            raise RefusedError("its layers are not one chain")
        if node.op == "output":
            if node.args != (last,):
                raise RefusedError("its forward returns more than one tensor")
            return traced
        last = node
        module = _called(node, model)
        new = node.op == "call_module" and node.target not in names
        traced.append((str(node.target) if new else f"{len(traced)}:{node.name}", module))
        names.add(str(node.target))
    raise RefusedError("its forward returns nothing")


def _called(node: fx.Node, model: nn.Module) -> nn.Module:
    """The module that a node calls, or that does the same as the function that it calls."""
    if node.op == "call_module":
        return model.get_submodule(str(node.target))
    kind = FUNCTIONS.get(node.target) if node.op in ("call_function", "call_method") else None
    title = _title(node)
    if kind is None or not node.args or isinstance(node.args[0], list | tuple):
        raise RefusedError(f"{title} has no batched kernel")
    if kind is nn.Flatten and len(node.args) == 1 and "start_dim" not in node.kwargs:
        raise RefusedError("flatten starts with the axis of the batch")
    if len(node.args) > 4:
        # The order of further arguments differs between functions and modules.
        raise RefusedError(f"{title} has too many positional arguments")
    return kind(*node.args[1:], **node.kwargs)


def _title(node: fx.Node) -> str:
    """The name of what a node calls."""
    return getattr(node.target, "__name__", str(node.target))
