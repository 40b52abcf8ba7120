"""`python -m thinned`: the command line, where its own name is not on the path."""

from __future__ import annotations

import sys

from thinned.cli.main import main

# Processes that train import this module, too, under another name.
if __name__ == "__main__":
    sys.exit(main())
