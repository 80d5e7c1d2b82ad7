"""What is measured in a layer: which modules are layers, and their statistics."""
