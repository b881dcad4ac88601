"""``python -m chainrule.course.figures [ID …]`` redraws figures, or measures what they show."""

import sys

from chainrule.course.figures import main

sys.exit(main())
