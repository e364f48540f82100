"""``python -m forge_notebook.cli``."""

import sys

from forge_notebook.cli import main

sys.exit(main())
