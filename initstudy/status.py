"""`python -m initstudy.status`."""

import sys

from initstudy.cli.status import main

if __name__ == "__main__":
    sys.exit(main())
