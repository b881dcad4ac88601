"""Documents and notebooks: parsed, executed, begun."""
