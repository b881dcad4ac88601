"""The manifest of a course with one document, for tests of a single check."""

MANIFEST = """
[course]
name = "Small"
promise = "A course for tests."
[[phase]]
number = 1
title = "Only"
summary = "The only phase."
[[document]]
id = "math-foundations/linear-algebra"
title = "Linear algebra"
phase = 1
minutes = 10
promise = "You can test the audit."
outline = [{ text = "Vectors", anchor = "vectors" }]
"""
