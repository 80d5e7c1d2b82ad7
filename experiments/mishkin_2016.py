"""Mishkin & Matas 2016: LSUV against Xavier, He and orthonormal weights, deep and thin.

    python experiments/mishkin_2016.py digits   # a few minutes; writes reports/mishkin_2016
    python experiments/mishkin_2016.py reduced  # some seconds, to see that it works

Trains a convolutional net of 16 layers of 8 channels with ReLU and tanh, 3 seeds each, checks what
the paper says, and writes the report. Further arguments go to the command.
"""

from study import choose

SWEEPS = {"digits": ("mishkin_2016", ["+sweep=mishkin_2016"])}
REDUCED = ["seed=0,1", "init=lsuv,orthogonal", "model.channels=[4,4,4]"]

if __name__ == "__main__":
    choose(SWEEPS, __doc__, REDUCED)
