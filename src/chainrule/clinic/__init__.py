"""The clinic: planted bugs, what they look like, and the tests that tell them apart.

``patient`` is a small model with its whole life, ``diseases`` says what each bug puts in the place
of which function, ``labs`` are the tests that can be ordered, ``records`` measures and stores,
``page`` writes ``reference/clinic.md``.
"""
