"""Modules of the documents in `modern-llms/`."""
