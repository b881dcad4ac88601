"""Commands that train a model and let it write."""
