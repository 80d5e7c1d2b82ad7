"""Fixed points against networks of width 4,096, drawn many times."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from initstudy.theory.meanfield import KNOWN, analyze

WIDTH, NETWORKS, LAYERS = 4096, 64, 40
# Torch's own functions, and variances that come to their fixed points within the layers.
ACTIVATIONS = {
    "relu": (torch.relu, 1.5, 0.2),
    "leaky_relu": (nn.functional.leaky_relu, 1.5, 0.2),
    "tanh": (torch.tanh, 2.6, 0.1),
    "erf": (torch.erf, 2.2, 0.1),
    "sigmoid": (torch.sigmoid, 40.0, 0.5),
    "hard_tanh": (nn.functional.hardtanh, 2.6, 0.1),
    "gelu": (nn.functional.gelu, 1.5, 0.2),
    "selu": (torch.selu, 0.7, 0.2),
    "swish": (nn.functional.silu, 1.8, 0.2),
    "silu": (nn.functional.silu, 1.8, 0.2),
    "elu": (nn.functional.elu, 1.2, 0.2),
    "mish": (nn.functional.mish, 1.5, 0.2),
    "softplus": (nn.functional.softplus, 0.7, 0.2),
    "linear": (lambda x: 1 * x, 0.7, 0.3),
}


def drawn(function, sigma_w2, sigma_b2):
    """Length, correlation and χ₁ of each network's last layer, for two inputs.

    Given what a layer reads, the units of the next are independent normals whose covariance is
    σ_w² times the mean product of what is read, plus σ_b²: networks of Gaussian weights, drawn
    without their 4,096² weights.
    """
    rng = np.random.default_rng(0)
    read = np.array([[1.0, 0.3], [0.3, 1.0]]) * np.ones((NETWORKS, 1, 1))
    for _ in range(LAYERS):
        covariance = sigma_w2 * read + sigma_b2
        # Two inputs that have become one have a covariance without an inverse.
        root = np.linalg.cholesky(covariance + 1e-12 * np.eye(2))
        z = root @ rng.standard_normal((NETWORKS, 2, WIDTH))
        units = torch.from_numpy(z).requires_grad_()
        values = function(units)
        read = (values @ values.mT / WIDTH).detach().numpy()
    (slopes,) = torch.autograd.grad(values.sum(), units)
    chi1 = sigma_w2 * slopes.square().mean((1, 2)).numpy()
    length = covariance.diagonal(axis1=1, axis2=2).mean(1)
    return length, covariance[:, 0, 1] / length, chi1


@pytest.mark.parametrize("activation", KNOWN)
def test_fixed_points_are_those_of_drawn_networks(activation):
    function, sigma_w2, sigma_b2 = ACTIVATIONS[activation]
    found = analyze(activation, sigma_w2, sigma_b2)
    for measured, expected in zip(
        drawn(function, sigma_w2, sigma_b2), (found.q, found.c, found.chi1), strict=True
    ):
        error = measured.std(ddof=1) / np.sqrt(NETWORKS)
        # Four standard errors; and at finite width, a share of 1/width of each.
        assert abs(measured.mean() - expected) < 4 * error + 8 * expected / WIDTH
