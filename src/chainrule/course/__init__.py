"""The tool behind the course: manifest, audit, exercises, site and command line."""
