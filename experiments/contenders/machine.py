"""The machine's rate of large matrix products, and the FLOPs of the work.

python -m contenders.machine mlp_digits      # in experiments/
"""

from __future__ import annotations

import json
import platform
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from contenders.tasks import Clock, Problem, Work, build, parser, prepare, work_of

# The size of the matrices; on a GPU, launching a product of the smaller ones takes longer than it.
SIZES = {"cpu": 2048, "cuda": 8192}
PRODUCTS = 10


def peak(device: str) -> float:
    """The FLOP/s of the fastest among some products of large float32 matrices."""
    size = SIZES[device.split(":")[0]]
    a, b = torch.randn(2, size, size, device=device)
    out = torch.empty_like(a)
    seconds = []
    for _ in range(PRODUCTS):
        clock = Clock()
        with clock.running(device):
            torch.mm(a, b, out=out)
        seconds.append(clock.seconds)
    return 2 * size**3 / min(seconds)


def flops(work: Work, problem: Problem) -> tuple[int, int]:
    """The FLOPs of one step, forward and backward, and of one evaluation on the whole test set."""
    model = build(work, problem.data, *work.runs[0])
    rows = next(iter(problem.order.values()))[0]
    step = FlopCounterMode(display=False)
    with step:
        F.cross_entropy(model(problem.train_x[rows]), problem.train_y[rows]).backward()
    return step.get_total_flops(), len(problem.test_y) * _forward(model, problem)


def _forward(model: nn.Module, problem: Problem) -> int:
    """The FLOPs of one example, forward."""
    one = FlopCounterMode(display=False)
    with one, torch.no_grad():
        model(problem.test_x[:1])
    return one.get_total_flops()


def name(device: str) -> str:
    """The name of the processor, with the number of threads in use."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'s' if threads > 1 else ''}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = [line.partition(":") for line in file]
        return next(value.strip() for key, _, value in lines if key.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    work = work_of(parser(__doc__).parse_args())
    problem = prepare(work)
    fastest = peak(work.device)
    # The counter does not know the fused recurrent layers of these libraries.
    libraries: list[Any] = [torch.backends.mkldnn, torch.backends.cudnn]
    for library in libraries:
        library.enabled = False
    per_step, per_evaluation = flops(work, problem)
    told = {
        "peak": fastest,
        "threads": torch.get_num_threads(),
        "name": name(work.device),
        "flops_of_a_step": per_step,
        "flops_of_an_evaluation": per_evaluation,
        "flops_of_a_run": work.steps * per_step + work.evaluations * per_evaluation,
    }
    print(json.dumps(told))
