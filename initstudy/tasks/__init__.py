"""What is to be learned: data, losses and metrics, as plain callables.

`Data` are the examples, whoever made them; the functions beside it are the data that come with
initstudy, each of which a file of conf/data names as its `_target_`. `make_task` puts data, a loss
and metrics together.
"""

from initstudy.tasks.batches import Batches
from initstudy.tasks.data import Data, as_data
from initstudy.tasks.images import cifar10, digits, fashion_mnist, image_folder, mnist
from initstudy.tasks.losses import LOSSES, Loss, binary, cross_entropy, mse
from initstudy.tasks.metrics import Metric, psnr
from initstudy.tasks.photograph import image_fit
from initstudy.tasks.sequences import adding, copy, parity
from initstudy.tasks.shapes import shapeset
from initstudy.tasks.tables import csv, npz, regression
from initstudy.tasks.task import Task, make_task
from initstudy.tasks.text import characters

__all__ = [
    "LOSSES",
    "Batches",
    "Data",
    "Loss",
    "Metric",
    "Task",
    "adding",
    "as_data",
    "binary",
    "characters",
    "cifar10",
    "copy",
    "cross_entropy",
    "csv",
    "digits",
    "fashion_mnist",
    "image_fit",
    "image_folder",
    "make_task",
    "mnist",
    "mse",
    "npz",
    "parity",
    "psnr",
    "regression",
    "shapeset",
]
