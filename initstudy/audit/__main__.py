"""`python -m initstudy.audit`."""

import sys

from initstudy.cli.audit import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
