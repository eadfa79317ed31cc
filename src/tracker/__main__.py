"""`python -m tracker`, which is how the supervisor starts its children."""

import sys

from tracker.cli import main

sys.exit(main())
