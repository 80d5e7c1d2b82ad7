"""Which modules a model calls, one after another."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from initstudy.engine.batched.purity import only_calls_layers

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


def calls(model: nn.Module) -> Calls | None:
    """The modules in the order of their calls; None where it is not one after another.

    Functions count as modules. What has no name in the model, as they and further calls of one
    module have none, gets one that no module has.
    """
    if any(_is_patched(module) for module in model.modules()):
        return None
    if not only_calls_layers(model, FUNCTIONS):
        return None
    training = model.training
    try:
        found, in_evaluation = _traced(model.train()), _traced(model.eval())
    finally:
        model.train(training)
    return found if repr(found) == repr(in_evaluation) else None


def _is_patched(module: nn.Module) -> bool:
    """Whether a call of it does more than its class says."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return any(hooks) or "forward" in vars(module)


class _Tracer(fx.Tracer):
    """Does not look into a user's version of one of torch's layers, which is that layer's name."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        kinds = set(type(m).__mro__) - {nn.Module, nn.Sequential}
        return any(kind.__module__.startswith("torch.nn.") for kind in kinds)


def _traced(model: nn.Module) -> Calls | None:
    try:
        graph = _Tracer().trace(model)
    except Exception:
        # What a model does while it is traced with a stand-in may fail in any way.
        return None
    found: Calls = []
    names: set[str] = set()
    last: fx.Node | None = None
    for node in graph.nodes:
        if node.op == "placeholder" and last is None:
            last = node
            continue
        if last is None or node.all_input_nodes != [last]:
            return None
        if node.op == "output":
            return found if node.args == (last,) else None
        last = node
        module = _called(node, model)
        if module is None:
            return None
        new = node.op == "call_module" and node.target not in names
        found.append((node.target if new else f"{len(found)}:{node.name}", module))
        names.add(node.target)
    return None


def _called(node: fx.Node, model: nn.Module) -> nn.Module | None:
    """The module that a node calls, or that does the same as the function that it calls."""
    if node.op == "call_module":
        return model.get_submodule(str(node.target))
    kind = FUNCTIONS.get(node.target) if node.op in ("call_function", "call_method") else None
    if kind is None or not node.args or isinstance(node.args[0], list | tuple):
        return None
    if kind is nn.Flatten and len(node.args) == 1 and "start_dim" not in node.kwargs:
        # The function would begin with the batch.
        return None
    # Further on their order is another one.
    return kind(*node.args[1:], **node.kwargs) if len(node.args) <= 4 else None
