"""Hanin & Rolnick 2018: how lengths drift and spread at the start, and what that does to it.

    python experiments/hanin_2018.py mnist    # some minutes; writes reports/hanin_2018
    python experiments/hanin_2018.py lengths  # some minutes; reports/hanin_2018_lengths
    python experiments/hanin_2018.py reduced  # some seconds, to see that it works

Trains ReLU nets as wide as they are deep from four variances on MNIST until they start; or
measures the squared length of signals in 10,800 nets at initialization. Checks what the paper says,
and writes the report. Runs that are finished are not trained again. Further arguments go to the
command, as in `python experiments/hanin_2018.py mnist data.root=PATH`.
"""

from study import choose

SWEEPS = {
    "mnist": ("hanin_2018", ["+sweep=hanin_2018"]),
    "lengths": ("hanin_2018_lengths", ["+sweep=hanin_2018_lengths"]),
}
REDUCED = ["seed=range(10)", "init.scale=1,2", "model.depth=3,6", "model.width=16"]

if __name__ == "__main__":
    choose(SWEEPS, __doc__, REDUCED)
