"""`python -m initstudy.report`."""

import sys

from initstudy.cli.report import main

if __name__ == "__main__":
    sys.exit(main())
