"""`python -m dysonflow` is the command `dysonflow`."""

import sys

from dysonflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
