"""Studies from Python: `initstudy.study` trains a grid, `initstudy.grid` is for your own loop."""
