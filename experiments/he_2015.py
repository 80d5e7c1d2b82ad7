"""He et al. 2015: Xavier and He in ReLU nets of 22 and of 30 layers.

    python experiments/he_2015.py mnist       # a minute or two; writes reports/he_2015

Trains dense nets on MNIST with 3 seeds, checks what the paper says of its convolutional ones, and
writes the report. Further arguments go to the command, as in
`python experiments/he_2015.py mnist data.root=PATH`.
"""

from study import choose

SWEEPS = {"mnist": ("he_2015", ["+sweep=he_2015"])}

if __name__ == "__main__":
    choose(SWEEPS, __doc__)
