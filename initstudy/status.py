"""`python -m initstudy.status`."""

from initstudy.cli.door import leave

if __name__ == "__main__":
    leave("status")
