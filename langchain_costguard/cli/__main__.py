"""``python -m langchain_costguard.cli``: the ``costguard`` command where its script is not on the PATH."""

import sys

from langchain_costguard.cli import main

sys.exit(main())
