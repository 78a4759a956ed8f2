"""Bringing runs from another MLflow into a database in use: `import` and `sync`.

`sources` opens what is read, `merging` adds what is new, `files` copies the artifacts. `run_list`
lists the runs of any source, for those who only read.
"""

# The modules that other rooms may import.
__all__ = [
    "copying",
    "experiments",
    "files",
    "merging",
    "older_schemas",
    "other_rows",
    "registered_models",
    "run_list",
    "run_rows",
    "sources",
    "turns",
]
