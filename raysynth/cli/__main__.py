"""`python -m raysynth.cli` is the `raysynth` command."""

import sys

from raysynth.cli import main

sys.exit(main())
