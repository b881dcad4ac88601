"""Modules of the documents in `math-foundations/`."""
