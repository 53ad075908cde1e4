"""`python -m circuit_assertions`: the same as the command `circuit-assertions`."""

from __future__ import annotations

import sys

from circuit_assertions.cli import main

if __name__ == "__main__":
    sys.exit(main())
