"""Modules of the documents in `architectures/`."""
