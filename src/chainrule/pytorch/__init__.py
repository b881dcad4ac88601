"""The course's GPT on PyTorch: the same names, the same numbers, on the engine that the world uses.

This package belongs to no document, needs PyTorch (``pip install 'chainrule[torch]'``), and is
imported by nothing else in Chain Rule; ``chainrule train --engine torch`` looks it up by name.
`gpt` is the model, to be held beside ``transformers/gpt``. `parity` compares it with the NumPy
engine, operation by operation. `world` knows the processes and `run` trains on them.
"""
