"""``python -m chainrule``: the command line, for launchers that start a module."""

from chainrule.cli import main

main()
