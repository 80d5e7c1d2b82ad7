"""From a grid to trained runs."""
