"""Steps of dense chains on a CPU, compiled to machine code."""

from initstudy.engine.compiled.program import Program, program

__all__ = ["Program", "program"]
