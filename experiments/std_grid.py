"""Which standard deviations train? The W&B article's study, extended by learning rate and depth.

    python experiments/std_grid.py digits   # a minute or two; writes reports/std_grid
    python experiments/std_grid.py mnist    # a quarter of an hour; reports/std_grid_mnist
    python experiments/std_grid.py lr       # two minutes; reports/std_lr
    python experiments/std_grid.py depth    # three minutes; reports/std_depth
    python experiments/std_grid.py reduced  # some seconds, to see that it works

Trains an MLP and a CNN over 14 standard deviations and 3 seeds each, on digits or on real MNIST;
or an MLP over standard deviations and learning rates, or standard deviations and depths. Checks
the claims and writes the report. Runs that are finished are not trained again. Further arguments
go to the command, as in `python experiments/std_grid.py mnist data.root=PATH`.
"""

from study import choose

SWEEPS = {
    "digits": ("std_grid", ["+sweep=std_grid", "model=mlp,cnn"]),
    "mnist": ("std_grid_mnist", ["+sweep=std_grid_mnist"]),
    "lr": ("std_lr", ["+sweep=std_lr"]),
    "depth": ("std_depth", ["+sweep=std_depth"]),
}
REDUCED = ["init.std=0.05,0.5", "seed=0,1"]

if __name__ == "__main__":
    choose(SWEEPS, __doc__, REDUCED)
