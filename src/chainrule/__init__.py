"""Chain Rule: a course in machine learning, from linear algebra to modern LLMs, as software.

Every topic module sits at ``chainrule.<folder>.<subject>`` and is taught by the document
of the same name, ``<folder>/<subject>.md``. Importing this package imports none of them.
"""

__version__ = "0.1.0"
