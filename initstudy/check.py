"""`python -m initstudy.check`."""

from initstudy.cli.door import leave

if __name__ == "__main__":
    leave("check")
