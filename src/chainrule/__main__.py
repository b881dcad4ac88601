"""``python -m chainrule``: the command line, for launchers that start a module."""

from chainrule.course.cli import main

main()
