"""The tool behind the course: manifest, documents, exercises, figures, audit and site."""
