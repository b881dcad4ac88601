"""An application of the course: the learner's own desk.

``workbook`` writes the exercises' stubs into files beside the learner and keeps the progress,
``reading`` is what can be said of exercises and answers that nobody executes, ``grader`` runs the
answers in a process of their own, ``grading`` is what happens there, ``replay`` runs a checked
answer step by step, ``page/`` is the same desk in the reader's browser.
"""
