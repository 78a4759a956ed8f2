"""`python -m mlflow_timescale.db._reaper DIRECTORY`: stop the server when its last user ends."""

import sys
from pathlib import Path

from mlflow_timescale.db.embedded import reap

if __name__ == "__main__":
    reap(Path(sys.argv[1]))
