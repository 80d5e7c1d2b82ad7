"""muP against the standard parametrization: coordinates and learning rates across widths.

    python experiments/width_transfer.py digits   # five minutes; writes reports/width_transfer
    python experiments/width_transfer.py reduced  # some seconds, to see that it works

Trains MLPs of 128 to 1,024 units at eight learning rates, 5 seeds each, checks that activations
keep their size and the best rate carries over, and writes the report. Further arguments go to the
command.
"""

from study import choose

SWEEPS = {"digits": ("width_transfer", ["+sweep=width_transfer"])}
REDUCED = ["seed=0,1", "model.width=16,32", "optimizer.lr=0.01,0.1"]

if __name__ == "__main__":
    choose(SWEEPS, __doc__, REDUCED)
