"""``python -m pyramid_baseplate_redis.cli``, which is ``predis``."""

from __future__ import annotations

import sys

from .main import main

if __name__ == "__main__":
    sys.exit(main())
