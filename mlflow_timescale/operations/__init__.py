"""Operations on a whole database: adopt, import, doctor, pack, prune, reproduce, roles.

One module for each operation; the commands of `mlflow_timescale.cli` call them. They stand on all
rooms below, and no room below imports them.
"""

# The modules that other rooms may import.
__all__ = [
    "adopt",
    "doctor",
    "extremes",
    "file_store",
    "importing",
    "packing",
    "pruning",
    "qlib_online",
    "qlib_workflow",
    "reproduce",
    "reproduce_check",
    "reproduce_rerun",
    "retention",
    "roles",
    "sessions",
]
