"""The small tables, rows and items of the tests of ``core/`` serve the others, too."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "core"))
