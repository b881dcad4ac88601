"""The course in the reader's browser: what a page needs to run its blocks and grade its exercises.

`bundle` writes what the browser loads, `runner` is what runs there; its other half is JavaScript,
in ``site/page``.
"""
