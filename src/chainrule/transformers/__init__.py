"""Modules of the documents in `transformers/`."""
