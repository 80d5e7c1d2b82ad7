"""Mean-field theory, and what it predicts for a given model."""
