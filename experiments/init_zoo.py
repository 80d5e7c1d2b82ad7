"""Which initializer? Every one that applies, on a deep MLP with ReLU and tanh and on a CNN.

    python experiments/init_zoo.py digits   # a few minutes; writes reports/init_zoo
    python experiments/init_zoo.py mnist    # a quarter of an hour; reports/init_zoo_mnist
    python experiments/init_zoo.py reduced  # some seconds, to see that it works

Trains each with 3 seeds, ranks them, checks the claims, and writes the report. Runs that are
finished are not trained again. Further arguments go to the command, as in `python
experiments/init_zoo.py mnist data.root=PATH`.
"""

from study import choose

SWEEPS = {
    "digits": ("init_zoo", ["+sweep=init_zoo"]),
    "mnist": ("init_zoo_mnist", ["+sweep=init_zoo_mnist"]),
}
REDUCED = ["init=xavier_normal,kaiming_normal", "seed=0,1"]

if __name__ == "__main__":
    choose(SWEEPS, __doc__, REDUCED)
