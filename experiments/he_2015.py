"""He et al. 2015: Xavier and He in ReLU nets of 22 and of 30 layers.

    python experiments/he_2015.py mnist    # a minute or two; writes reports/he_2015
    python experiments/he_2015.py reduced  # some seconds, to see that it works

Trains dense nets on MNIST with 3 seeds, checks what the paper says of its convolutional ones, and
writes the report. Runs that are finished are not trained again. Further arguments go to the
command, as in `python experiments/he_2015.py mnist data.root=PATH`.
"""

from study import choose

SWEEPS = {"mnist": ("he_2015", ["+sweep=he_2015"])}
REDUCED = ["seed=0,1", "model.width=16"]

if __name__ == "__main__":
    choose(SWEEPS, __doc__, REDUCED)
