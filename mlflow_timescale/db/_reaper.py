"""`python -m mlflow_timescale.db._reaper DIRECTORY`: stop an embedded server when its last user ends."""

import sys
from pathlib import Path

from mlflow_timescale.db.embedded import stop_when_unused

if __name__ == "__main__":
    stop_when_unused(Path(sys.argv[1]))
