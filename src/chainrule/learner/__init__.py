"""An application of the course: the learner's own desk.

``workbook`` writes the exercises' stubs into files beside the learner and keeps the progress,
``reading`` reads those files without running them, ``grader`` runs them in a process of its own,
``grading`` is what happens there, ``replay`` keeps a call that fails and steps through it,
``page/`` is the same desk in the reader's browser, ``commands/`` is what a learner types.
"""
