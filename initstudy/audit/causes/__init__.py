"""What may be wrong with a model, one file per subject; each function yields warnings."""
