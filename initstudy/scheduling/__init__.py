"""From a grid to trained runs: what trains together, where, and what happens on failure."""
