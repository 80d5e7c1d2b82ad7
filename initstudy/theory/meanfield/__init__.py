"""Signal propagation at initialization: what theory predicts for a network before it is sampled.

A layer is z = W·φ(z') + b with independent weights of mean zero and variance σ_w²/fan_in and biases
of variance σ_b². As its width grows, z becomes Gaussian. Its variance q and the correlation c
between two inputs then follow maps from layer to layer (Poole et al. 2016, Exponential expressivity
in deep neural networks through transient chaos; Schoenholz et al. 2017, Deep Information
Propagation). In the literature √q is the length of a signal; here q is, for short.

A convolution has the same limit as its channels grow, with fan_in = k²·channels, for inputs whose
statistics do not vary over positions (Xiao et al. 2018, Dynamical Isometry and a Mean Field Theory
of CNNs, section 2).

The activation function of every function here is a name, an `Activation` (such as that of
`leaky_relu(0.2)`), or any elementwise function of torch; see `resolve`.

Example:
    >>> from initstudy.theory import meanfield
    >>> meanfield.critical_sigma_w2("relu")
    2.0
    >>> meanfield.analyze("tanh", sigma_w2=1.5, sigma_b2=0.05).phase
    'ordered'
"""

from initstudy.theory.meanfield.activation import Activation as Activation
from initstudy.theory.meanfield.analysis import Propagation as Propagation
from initstudy.theory.meanfield.analysis import analyze as analyze
from initstudy.theory.meanfield.analysis import critical_sigma_w2 as critical_sigma_w2
from initstudy.theory.meanfield.gradient_spread import BackwardBand as BackwardBand
from initstudy.theory.meanfield.gradient_spread import backward_band as backward_band
from initstudy.theory.meanfield.gradient_spread import backward_spread as backward_spread
from initstudy.theory.meanfield.layers import Backward as Backward
from initstudy.theory.meanfield.layers import Forward as Forward
from initstudy.theory.meanfield.layers import Layer as Layer
from initstudy.theory.meanfield.layers import backward_variances as backward_variances
from initstudy.theory.meanfield.layers import dense as dense
from initstudy.theory.meanfield.layers import forward_variances as forward_variances
from initstudy.theory.meanfield.layers import weight_variance as weight_variance
from initstudy.theory.meanfield.maps import correlation_map as correlation_map
from initstudy.theory.meanfield.maps import correlation_slope as correlation_slope
from initstudy.theory.meanfield.maps import length_map as length_map
from initstudy.theory.meanfield.maps import length_slope as length_slope
from initstudy.theory.meanfield.maps import stable_correlation as stable_correlation
from initstudy.theory.meanfield.maps import stable_length as stable_length
from initstudy.theory.meanfield.names import KNOWN as KNOWN
from initstudy.theory.meanfield.names import ActivationLike as ActivationLike
from initstudy.theory.meanfield.names import elu as elu
from initstudy.theory.meanfield.names import leaky_relu as leaky_relu
from initstudy.theory.meanfield.names import resolve as resolve
from initstudy.theory.meanfield.names import softplus as softplus
from initstudy.theory.meanfield.spread import Band as Band
from initstudy.theory.meanfield.spread import forward_band as forward_band
from initstudy.theory.meanfield.spread import forward_spread as forward_spread
from initstudy.theory.meanfield.spread import relu_spread as relu_spread
from initstudy.theory.meanfield.spread import relu_spread_limit as relu_spread_limit
