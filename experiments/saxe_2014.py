"""Saxe et al. 2014: learning time against depth in deep linear nets, orthogonal and Gaussian.

    python experiments/saxe_2014.py mnist    # five minutes; writes reports/saxe_2014
    python experiments/saxe_2014.py reduced  # some seconds, to see that it works

Trains linear nets of 4 to 64 hidden layers on MNIST, each depth at its own best learning rate,
checks what the paper says, and writes the report. Runs that are finished are not trained again.
Further arguments go to the command, as in `python experiments/saxe_2014.py mnist data.root=PATH`.
"""

from study import choose

SWEEPS = {"mnist": ("saxe_2014", ["+sweep=saxe_2014"])}
REDUCED = ["seed=0,1", "model.depth=2,4", "optimizer.lr=0.01,0.1", "model.width=16"]

if __name__ == "__main__":
    choose(SWEEPS, __doc__, REDUCED)
