"""Initial weights of other frameworks, built by their own code."""

import os

# Keras reads this when it is first imported, which happens inside the functions of this package.
os.environ.setdefault("KERAS_BACKEND", "jax")
