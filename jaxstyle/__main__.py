"""`python -m jaxstyle`: see `jaxstyle.cli`."""

import sys

from jaxstyle.cli import main

if __name__ == "__main__":
    sys.exit(main())
