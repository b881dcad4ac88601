"""An application of the course: one small GPT through its whole life, and talking to a model.

It uses the subjects as a reader would, and no subject, exercise or figure imports it. ``tasks``
makes instructions with exact answers, ``run`` takes a model through the ``stages``, ``report``
writes down what came out, ``probes`` asks any model the same ten things, ``chat`` talks to one.
"""
