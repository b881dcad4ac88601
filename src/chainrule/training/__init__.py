"""Modules of the documents in `training/`."""
