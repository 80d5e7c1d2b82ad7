"""Residual branches: what is added to a signal that is also carried past them.

They are found in the model's data flow (`graph`). An addition is residual if one of the signals
that it adds is an ancestor of the other, or if both come from one signal, one of them through
nothing but a projection, and nothing in between is read elsewhere. Names of modules play no part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from initstudy.initializers.graph import Graph, Node, trace
from initstudy.initializers.kinds import RECURRENT, WEIGHTED, kind

ADDITIONS = {"add", "iadd", "radd", "add_", "sub", "isub", "sub_", "rsub"}
SCALINGS = {"mul", "imul", "rmul", "mul_", "div", "truediv", "itruediv", "div_", "neg"}
# Functions that move, repeat, drop or average entries, but do not change the signal's sum.
MOVES = {
    "view", "reshape", "flatten", "unflatten", "permute", "transpose", "t", "contiguous", "squeeze",
    "unsqueeze", "expand", "getitem", "chunk", "split", "unbind", "narrow", "select", "roll",
    "flip", "clone", "to", "type", "float", "half", "bfloat16", "type_as", "dropout", "dropout2d",
    "feature_dropout", "pad", "repeat", "movedim", "swapaxes", "view_as", "reshape_as",
    "expand_as", "stochastic_depth", "get", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "mean", "interpolate",
    "upsample", "cat", "concat", "stack", "identity", "alias", "tensor_split", "detach",
}  # fmt: skip
MOVERS = (
    nn.Identity,
    nn.modules.dropout._DropoutNd,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.Upsample,
    nn.Flatten,
    nn.Unflatten,
)
PRODUCTS = {"linear", "matmul", "conv1d", "conv2d", "conv3d", "addmm", "bmm", "einsum", "mm"}
# Activation functions with φ(0) = 0 and φ'(0) ≠ 0. That of relu is zero in torch, for good.
STEEP = {"silu", "gelu", "tanh", "elu", "selu", "celu", "mish", "hardswish", "hardtanh", "softsign"}
# torch's own blocks, whose code is known: the layers of every branch, the last one at its end.
BLOCKS: tuple[tuple[type[nn.Module], tuple[tuple[str, ...], ...]], ...] = (
    (nn.TransformerEncoderLayer, (("self_attn",), ("linear1", "linear2"))),
    (
        nn.TransformerDecoderLayer,
        (("self_attn",), ("multihead_attn",), ("linear1", "linear2")),
    ),
)


@dataclass(frozen=True)
class Branch:
    """A residual branch, by the names of modules and parameters in the model.

    Attributes:
        layers: The layers with weights in the branch, in the order in which they run; by the name
            of the parameter if it does not belong to a layer that is a module.
        weight: The weight of the last layer, or None if the branch does not end in one.
        norm: The normalization between the last layer and the addition, or None.
        multipliers: The parameters by which the branch's output is multiplied.
        shortcut: The layers of the projection that the carried signal goes through.
        activation: The activation function between these and the addition, if it has φ(0) = 0 and
            φ'(0) ≠ 0, so that a branch of zeros still learns.
        end: What ends the branch, if that is nothing of the above.
        attends: Whether the branch is attention: whether it holds a softmax.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import residual_branches
        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.inner, self.outer = nn.Linear(4, 8), nn.Linear(8, 4)
        ...     def forward(self, x):
        ...         return x + self.outer(self.inner(x).relu())
        >>> (branch,) = residual_branches(Block())
        >>> branch.layers, branch.weight
        (('inner', 'outer'), 'outer.weight')
    """

    layers: tuple[str, ...]
    weight: str | None
    norm: str | None = None
    multipliers: tuple[str, ...] = ()
    shortcut: tuple[str, ...] = ()
    activation: str | None = None
    end: str | None = None
    attends: bool = False


def residual_branches(model: nn.Module, batch: object = None) -> list[Branch]:
    """The residual branches of a model, in the order in which they run.

    Args:
        model: Any module. It does not change.
        batch: Inputs of the model, needed only if its data flow cannot be read from its code; see
            `graph.trace`.

    Raises:
        ValueError: The data flow cannot be found.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import residual_branches
        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 4)
        ...
        ...     def forward(self, x):
        ...         return x + self.down(self.up(x).relu())
        >>> residual_branches(Block())
        [Branch(layers=('up', 'down'), weight='down.weight', norm=None, multipliers=(), \
shortcut=(), activation=None, end=None, attends=False)]
    """
    return find_branches(trace(model, batch))


def find_branches(graph: Graph) -> list[Branch]:
    """The residual branches in a model's data flow, in the order in which they run.

    Args:
        graph: The data flow.
    """
    return list(_Search(graph).branches())


class _Search:
    def __init__(self, graph: Graph) -> None:
        self.nodes = graph.nodes
        # Sets of nodes are the bits of whole numbers.
        self.above: list[int] = []
        users: list[list[Node]] = [[] for _ in self.nodes]
        for node in self.nodes:
            bits = 0
            for read in node.reads:
                bits |= self.above[read.index] | 1 << read.index
                users[read.index].append(node)
            self.above.append(bits)
        self.users = users
        self.residual: set[int] = set()

    def branches(self) -> Iterator[Branch]:
        for node in self.nodes:
            if node.module is not None:
                yield from _of_block(node.name, node.module)
            elif _is_addition(node):
                yield from self._of_addition(node)

    def _of_addition(self, node: Node) -> Iterator[Branch]:
        ends = [end for read in node.reads for end in self._ends(read)]
        carried = [e for e in ends if any(self._is_above(e.node, o.node) for o in ends)]
        if carried:
            start = max(carried, key=lambda end: end.node.index).node
            added = {end.node.index: end for end in ends if end not in carried}
            branches = [self._branch(end, start, ()) for end in added.values()]
            # x + x³, as in an approximation of GELU, is a function and no branch.
            if all(branch.layers or branch.norm for branch in branches):
                self.residual.add(node.index)
                yield from branches
            return
        sides = [list(self._ends(read)) for read in node.reads]
        if len(sides) != 2 or any(len(side) != 1 for side in sides):
            return
        (one,), (other,) = sides
        fork = self._fork(node)
        if fork is None or not self._is_closed(fork, node):
            return
        for skip, end in ((one, other), (other, one)):
            shortcut = self._projection(skip.node, fork)
            if shortcut and not self._projection(end.node, fork):
                self.residual.add(node.index)
                yield self._branch(end, fork, shortcut)
                return

    def _ends(self, node: Node, multipliers: tuple[str, ...] = ()) -> Iterator[_End]:
        """What a signal comes from, behind all that only moves, scales or adds it."""
        if node.index not in self.residual and (_is_linear(node) or _is_addition(node)):
            if node.name in SCALINGS:
                multipliers = (*multipliers, *node.parameters)
            for read in node.reads[:1] if node.name.endswith("_as") else node.reads:
                yield from self._ends(read, multipliers)
        else:
            yield _End(node, multipliers)

    def _branch(self, end: _End, start: Node, shortcut: tuple[str, ...]) -> Branch:
        node, norm, activation, last = end.node, None, None, None
        if _starts_steep(node):
            activation, node = _called(node), self._only(node)
        if _is_norm(node):
            norm, node = node.name, self._only(node)
        weight = _weight(node) if self._is_above(start, node) else None
        if weight is None and norm is None:
            last = f"{node.name} ({_called(node)})" if node.module else node.name
        inside = self._between(start, end.node)
        layers = tuple(name for n in inside if is_layer(n) and (name := _layer(n)) not in shortcut)
        attends = any(_attends(n) for n in inside)
        return Branch(layers, weight, norm, end.multipliers, shortcut, activation, last, attends)

    def _only(self, node: Node) -> Node:
        """What a node's signal comes from, or the node itself if that is not one thing."""
        before = [end.node for read in node.reads for end in self._ends(read)]
        return before[0] if len(before) == 1 else node

    def _between(self, start: Node, end: Node) -> list[Node]:
        """The nodes on the ways from one node to another, the other one included."""
        return [
            node
            for node in self.nodes[start.index + 1 : end.index + 1]
            if self._is_above(start, node) and (node is end or self._is_above(node, end))
        ]

    def _is_above(self, one: Node, other: Node) -> bool:
        return bool(self.above[other.index] >> one.index & 1)

    def _projection(self, node: Node, start: Node) -> tuple[str, ...]:
        """The layer, alone or with a normalization, through which a signal comes from another."""
        if _is_norm(node) and len(node.reads) == 1:
            node = node.reads[0]
        if not is_layer(node) or len(node.reads) != 1:
            return ()
        before = node.reads[0]
        while before is not start and _is_linear(before) and len(before.reads) == 1:
            before = before.reads[0]
        return (_layer(node),) if before is start else ()

    def _fork(self, node: Node) -> Node | None:
        """The last node that every way from the inputs to a node passes."""
        dominators = self._dominators()
        at = dominators[node.index]
        return None if at < 0 else self.nodes[at]

    def _dominators(self) -> list[int]:
        if not hasattr(self, "_idom"):
            self._idom: list[int] = []
            for node in self.nodes:
                parents = [read.index for read in node.reads] or [-1]
                at = parents[0]
                for other in parents[1:]:
                    while at != other:
                        if at > other:
                            at = self._idom[at]
                        else:
                            other = self._idom[other]
                self._idom.append(at)
        return self._idom

    def _is_closed(self, start: Node, end: Node) -> bool:
        """Whether nothing between two nodes is read by what lies elsewhere."""
        inside = {node.index for node in self._between(start, end)}
        return all(
            user.index in inside for index in inside - {end.index} for user in self.users[index]
        )


@dataclass(frozen=True)
class _End:
    node: Node
    multipliers: tuple[str, ...]


def _of_block(name: str, module: nn.Module) -> Iterator[Branch]:
    for cls, branches in BLOCKS:
        if isinstance(module, nn.TransformerEncoder | nn.TransformerDecoder | nn.Transformer):
            prefix = f"{name}." if name else ""
            for below, child in module.named_modules():
                if isinstance(child, cls):
                    yield from _of_layer(prefix + below, child, branches)
        elif isinstance(module, cls):
            yield from _of_layer(name, module, branches)


def _of_layer(name: str, module: nn.Module, branches: Sequence[Sequence[str]]) -> Iterator[Branch]:
    prefix = f"{name}." if name else ""
    for layers in branches:
        last = module.get_submodule(layers[-1])
        inner = "out_proj." if isinstance(last, nn.MultiheadAttention) else ""
        yield Branch(
            tuple(prefix + layer for layer in layers),
            f"{prefix}{layers[-1]}.{inner}weight",
            attends=isinstance(last, nn.MultiheadAttention),
        )


def _is_addition(node: Node) -> bool:
    return node.kind == "function" and node.name in ADDITIONS and len(node.reads) > 1


def _is_linear(node: Node) -> bool:
    """Whether a node only moves, scales or shifts one signal."""
    if node.module is not None:
        return isinstance(node.module, MOVERS)
    if node.kind != "function":
        return False
    if node.name.endswith("_as"):
        # What it reads besides only says a type or a shape.
        return True
    if len(node.reads) != 1:
        return False
    return node.name in MOVES or node.name in SCALINGS or node.name in ADDITIONS


def _is_norm(node: Node) -> bool:
    return node.module is not None and kind(node.module) == "norm"


def is_layer(node: Node) -> bool:
    """Whether an operation is a layer with weights, or a product with a parameter.

    Args:
        node: The operation.
    """
    if node.module is not None:
        return kind(node.module) in WEIGHTED
    return node.name in PRODUCTS and len(node.reads) == 1 and bool(node.parameters)


def _weight(node: Node) -> str | None:
    """The name of the weight that a layer's output is proportional to."""
    if not is_layer(node):
        return None
    if node.module is None:
        return node.parameters[0]
    if kind(node.module) in RECURRENT:
        return None
    inner = "out_proj." if isinstance(node.module, nn.MultiheadAttention) else ""
    return f"{node.name}.{inner}weight".removeprefix(".")


def _layer(node: Node) -> str:
    """The name of a layer: its module's, or that of the parameter that a function multiplies by."""
    return node.name if node.module is not None else node.parameters[0].removesuffix(".weight")


def _called(node: Node) -> str:
    return node.name if node.module is None else type(node.module).__name__


def _attends(node: Node) -> bool:
    if node.module is not None:
        return isinstance(node.module, nn.MultiheadAttention | nn.Softmax)
    return node.name in ("softmax", "scaled_dot_product_attention")


def _starts_steep(node: Node) -> bool:
    """Whether a node is an activation function with φ(0) = 0 and a slope there."""
    return len(node.reads) == 1 and _called(node).lower() in STEEP
