"""Steps of dense chains on a CPU, compiled to machine code."""
