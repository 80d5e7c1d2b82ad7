"""Schoenholz et al. 2017: the phase diagram of deep tanh nets, with theory's boundary.

    python experiments/schoenholz_2017.py mnist    # ten minutes; writes reports/phase_diagram
    python experiments/schoenholz_2017.py full     # the paper's own sizes, for a GPU
    python experiments/schoenholz_2017.py reduced  # some seconds, to see that it works

Trains tanh nets over depth and weight variance on MNIST, 3 seeds a cell, asks how well theory's
depth scale separates those that train, and writes the report. Runs that are finished are not
trained again. Further arguments go to the command, as in `python experiments/schoenholz_2017.py
mnist data.root=PATH`.
"""

from study import choose

SWEEPS = {
    "mnist": ("phase_diagram", ["+sweep=phase_diagram"]),
    "full": ("phase_diagram_full", ["+sweep=phase_diagram_full"]),
}
REDUCED = ["seed=0,1", "init.sigma_w2=1,2", "model.depth=2,4", "model.width=16"]

if __name__ == "__main__":
    choose(SWEEPS, __doc__, REDUCED)
