"""`python -m initstudy.explain`."""

from initstudy.cli.door import leave

if __name__ == "__main__":
    leave("explain")
