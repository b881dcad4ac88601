"""An application of the course: models that others trained, and what a reader does with them.

It uses the subjects as a reader would, and no subject, exercise or figure imports it.
"""
