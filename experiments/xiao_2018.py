"""Xiao et al. 2018: delta-orthogonal against Gaussian weights in deep plain CNNs.

    python experiments/xiao_2018.py digits   # ten minutes; writes reports/xiao_2018
    python experiments/xiao_2018.py reduced  # some seconds, to see that it works

Trains tanh CNNs of 8 to 128 layers without normalization on digits, each at its own best learning
rate, checks what the paper says, and writes the report. Further arguments go to the command.
"""

from study import choose

SWEEPS = {"digits": ("xiao_2018", ["+sweep=xiao_2018"])}
REDUCED = ["seed=0,1", "model.depth=2,4", "optimizer.lr=0.01,0.1", "model.channels=4"]

if __name__ == "__main__":
    choose(SWEEPS, __doc__, REDUCED)
