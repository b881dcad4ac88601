"""Commands for learners: exercises, answers, hints, progress, the way through the course."""
