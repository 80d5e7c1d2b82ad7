"""Glorot & Bengio 2010: activations and gradients by layer, heuristic against normalized.

    python experiments/glorot_2010.py mnist       # a minute or two; writes reports/glorot_2010

Trains five hidden layers with tanh and with sigmoid on MNIST, 3 seeds each, checks what the paper
says, and writes the report. Further arguments go to the command, as in
`python experiments/glorot_2010.py mnist data.root=PATH`.
"""

from study import choose

SWEEPS = {"mnist": ("glorot_2010", ["+sweep=glorot_2010"])}

if __name__ == "__main__":
    choose(SWEEPS, __doc__)
