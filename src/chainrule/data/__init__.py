"""Data sets that are always there or one extra away; every topic module may import this."""
