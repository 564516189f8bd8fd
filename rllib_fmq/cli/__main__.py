"""``python -m rllib_fmq.cli`` is ``rllib``."""

import sys

from rllib_fmq.cli import main

sys.exit(main())
