"""Which standard deviations train? The W&B article's study, on digits and on real MNIST.

    python experiments/std_grid.py digits      # a minute or two; writes reports/std_grid
    python experiments/std_grid.py mnist       # a quarter of an hour; reports/std_grid_mnist

Trains an MLP and a CNN over 14 standard deviations and 3 seeds each, checks the claims, and writes
the report. Runs that are finished are not trained again. Further arguments go to the command, as in
`python experiments/std_grid.py mnist data.root=PATH`.
"""

from study import choose

SWEEPS = {
    "digits": ("std_grid", ["+sweep=std_grid", "model=mlp,cnn"]),
    "mnist": ("std_grid_mnist", ["+sweep=std_grid_mnist"]),
}

if __name__ == "__main__":
    choose(SWEEPS, __doc__)
