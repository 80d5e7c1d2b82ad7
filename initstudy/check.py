"""`python -m initstudy.check`."""

import sys

from initstudy.cli.check import main

if __name__ == "__main__":
    sys.exit(main())
