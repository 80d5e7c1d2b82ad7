"""Mean-field theory (`meanfield`), and what it predicts for a given model (`predict`)."""
