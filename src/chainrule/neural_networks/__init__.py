"""Modules of the documents in `neural-networks/`."""
