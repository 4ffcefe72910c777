"""``python -m vnp``."""

import sys

from vnp.cli.main import main

sys.exit(main())
