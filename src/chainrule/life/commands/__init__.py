"""Commands about one model's whole life."""
