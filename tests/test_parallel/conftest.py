"""Lets this process and the workers that tests start import ``toy_work``."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
