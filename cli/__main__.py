"""`python -m cli` is the `smi-mesh` command."""

from cli.main import main

main()
