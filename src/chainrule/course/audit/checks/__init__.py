"""One small file a check of the audit."""
