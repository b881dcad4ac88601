"""Commands about models that others trained."""
