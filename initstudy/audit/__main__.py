"""`python -m initstudy.audit`."""

from initstudy.cli.door import leave

if __name__ == "__main__":
    leave("audit")
