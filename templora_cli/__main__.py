"""`python -m templora_cli`."""

from templora_cli.cli import main

main()
