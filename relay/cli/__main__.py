"""`python -m relay.cli` is `outbox`."""

import sys

from relay.cli import main

sys.exit(main())
