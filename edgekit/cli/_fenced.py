"""The process behind the fence: `python -m edgekit.cli._fenced MEMORY CPU_S FILE_BYTES` and a command line of edgekit."""

import sys

from edgekit import cli
from edgekit.untrusted_child import fence

if __name__ == "__main__":
    fence(*map(int, sys.argv[1:4]))
    sys.argv[1:4] = []
    sys.exit(cli.main())
