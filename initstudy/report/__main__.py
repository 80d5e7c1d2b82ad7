"""`python -m initstudy.report`."""

from initstudy.cli.door import leave

if __name__ == "__main__":
    leave("report")
