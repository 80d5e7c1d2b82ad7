"""Glorot & Bengio 2010: activations and gradients by layer, heuristic against normalized.

    python experiments/glorot_2010.py mnist    # a minute or two; writes reports/glorot_2010
    python experiments/glorot_2010.py reduced  # some seconds, to see that it works

Trains five hidden layers with tanh and with sigmoid on MNIST, 3 seeds each, checks what the paper
says, and writes the report. Runs that are finished are not trained again. Further arguments go to
the command, as in `python experiments/glorot_2010.py mnist data.root=PATH`.
"""

from study import choose

SWEEPS = {"mnist": ("glorot_2010", ["+sweep=glorot_2010"])}
REDUCED = ["seed=0,1", "model.width=16"]

if __name__ == "__main__":
    choose(SWEEPS, __doc__, REDUCED)
