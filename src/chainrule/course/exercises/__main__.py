"""``python -m chainrule.course.exercises FILE …`` proves exercise files."""

import sys

from chainrule.course.exercises import main

sys.exit(main(sys.argv[1:]))
