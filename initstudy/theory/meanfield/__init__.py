"""Signal propagation at initialization: what theory predicts before any network is drawn.

A layer is z = W·φ(z') + b with independent weights of zero mean and variance σ_w²/fan_in and biases
of variance σ_b². As its width grows, z becomes Gaussian, with a variance q and, between two inputs,
a correlation c that follow maps from layer to layer (Poole et al. 2016, Exponential expressivity in
deep neural networks through transient chaos; Schoenholz et al. 2017, Deep Information Propagation).

A convolution has the same limit as its channels grow, with fan_in = k²·channels, for inputs whose
statistics do not change over positions (Xiao et al. 2018, Dynamical Isometry and a Mean Field
Theory of CNNs, section 2).
"""

from initstudy.theory.meanfield.activations import KNOWN, resolve
from initstudy.theory.meanfield.analysis import Propagation, analyze, critical_sigma_w2
from initstudy.theory.meanfield.gradient_spread import BackwardBand, backward_band, backward_spread
from initstudy.theory.meanfield.layers import (
    Backward,
    Forward,
    Layer,
    backward_variances,
    dense,
    forward_variances,
    weight_variance,
)
from initstudy.theory.meanfield.maps import (
    correlation_map,
    correlation_slope,
    length_map,
    length_slope,
    stable_correlation,
    stable_length,
)
from initstudy.theory.meanfield.spread import (
    Band,
    forward_band,
    forward_spread,
    relu_spread,
    relu_spread_limit,
)

__all__ = [
    "KNOWN",
    "Backward",
    "BackwardBand",
    "Band",
    "Forward",
    "Layer",
    "Propagation",
    "analyze",
    "backward_band",
    "backward_spread",
    "backward_variances",
    "correlation_map",
    "correlation_slope",
    "critical_sigma_w2",
    "dense",
    "forward_band",
    "forward_spread",
    "forward_variances",
    "length_map",
    "length_slope",
    "relu_spread",
    "relu_spread_limit",
    "resolve",
    "stable_correlation",
    "stable_length",
    "weight_variance",
]
