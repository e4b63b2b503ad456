"""The entry point of `templora` and of `python -m templora_cli`."""

from __future__ import annotations

from templora_cli.interrupts import quit_on_ctrl_c


def main() -> None:
    """Run the command line; Ctrl-C is quiet before anything is loaded that takes time."""
    quit_on_ctrl_c()
    from templora_cli import cli

    cli.main()


if __name__ == "__main__":
    main()
