"""The command ``chainrule clinic``."""
