"""What other frameworks start from, built by their own code."""

import os

# Keras reads it when it is first imported, which the modules here do inside their functions.
os.environ.setdefault("KERAS_BACKEND", "jax")
