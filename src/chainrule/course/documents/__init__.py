"""Documents and notebooks: read, executed, and taken as text to train on."""
