"""`python -m shnet_lib` is the command `shnet`."""

import sys

from shnet_lib.command import main

if __name__ == "__main__":
    sys.exit(main())
