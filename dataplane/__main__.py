"""`python -m dataplane [--workers N]`: run the sidecar with the environment the injector wrote."""

from __future__ import annotations

import os
import sys

from dataplane.main import main

if __name__ == "__main__":
    sys.exit(main(os.environ, sys.argv[1:]))
