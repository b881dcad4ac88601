"""One file a command of `chainrule`; each has `register(app)`."""
