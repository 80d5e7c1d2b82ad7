"""The studies whose reports are committed, one entry per file of `conf/sweep`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Study:
    """One study; its name is that of its file in `conf/sweep`.

    Attributes:
        about: What it asks, in one line of the index.
        overrides: What the command gets besides `+sweep=NAME`.
        reduced: Overrides that leave a handful of runs, to see within seconds that the study works.
        mnist: Whether it needs torchvision's MNIST.
        committed: Whether its report is in `reports/`.
    """

    about: str
    overrides: tuple[str, ...] = ()
    reduced: tuple[str, ...] = ("seed=0,1",)
    mnist: bool = False
    committed: bool = True


# What every reduced study has in common.
REDUCED = (
    "data=digits",
    "data.subset=200",
    "batch_size=16",
    "max_steps=4",
    "log_every=2",
    "eval_every=4",
    "probes.every=2",
)
STD = ("init.std=0.05,0.5", "seed=0,1")
ZOO = ("init=xavier_normal,kaiming_normal", "seed=0,1")
PHASE = ("init.sigma_w2=1,2", "model.depth=2,4", "model.width=16", "seed=0,1")
LENGTHS = ("init.scale=1,2", "model.depth=3,6", "model.width=16", "seed=range(10)")
RECURRENT = ("optimizer.lr=0.001,0.01", "model.width=4", "model.sequence=rows", "seed=0,1")

# In the order of the index.
STUDIES = {
    "std_grid": Study(
        "standard deviations, an MLP and a CNN on digits",
        overrides=("model=mlp,cnn",),
        reduced=STD,
    ),
    "std_grid_mnist": Study("the same on real MNIST", reduced=STD, mnist=True),
    "std_lr": Study("standard deviations by learning rates, an MLP on digits", reduced=STD),
    "std_depth": Study("standard deviations by depths, an MLP on digits", reduced=STD),
    "init_zoo": Study(
        "every initializer, thirty-layer MLPs and a CNN on digits",
        reduced=ZOO,
    ),
    "init_zoo_mnist": Study("the same on real MNIST", reduced=ZOO, mnist=True),
    "glorot_2010": Study(
        "Glorot & Bengio 2010: normalized initialization",
        reduced=("model.width=16", "seed=0,1"),
        mnist=True,
    ),
    "he_2015": Study(
        "He et al. 2015: 22 and 30 ReLU layers",
        reduced=("model.width=16", "seed=0,1"),
        mnist=True,
    ),
    "mishkin_2016": Study(
        "Mishkin & Matas 2016: LSUV",
        reduced=("init=lsuv,orthogonal", "model.channels=[4,4,4]", "seed=0,1"),
    ),
    "saxe_2014": Study(
        "Saxe et al. 2014: deep linear nets",
        reduced=("model.depth=2,4", "optimizer.lr=0.01,0.1", "model.width=16", "seed=0,1"),
        mnist=True,
    ),
    "phase_diagram": Study(
        "Schoenholz et al. 2017: the phase diagram",
        reduced=PHASE,
        mnist=True,
    ),
    "phase_diagram_full": Study(
        "the same at the paper's own sizes, for a GPU",
        reduced=PHASE,
        mnist=True,
        committed=False,
    ),
    "hanin_2018": Study(
        "Hanin & Rolnick 2018: how to start training",
        reduced=LENGTHS,
        mnist=True,
    ),
    "hanin_2018_lengths": Study(
        "the same paper: lengths of signals at initialization",
        reduced=LENGTHS,
    ),
    "le_2015": Study(
        "Le et al. 2015: rectified recurrent nets",
        reduced=RECURRENT,
    ),
    "jozefowicz_2015": Study(
        "Jozefowicz et al. 2015: forget gates",
        reduced=RECURRENT,
    ),
    "xiao_2018": Study(
        "Xiao et al. 2018: deep plain CNNs",
        reduced=("model.depth=2,4", "optimizer.lr=0.01,0.1", "model.channels=4", "seed=0,1"),
    ),
    "width_transfer": Study(
        "Yang et al. 2022: muP across widths",
        reduced=("model.width=16,32", "optimizer.lr=0.01,0.1", "seed=0,1"),
    ),
}
