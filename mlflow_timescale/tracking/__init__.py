"""MLflow's tracking store: runs, metrics, params and tags in native SQL.

Entry points: `opening` and `store`. `writes` and `create` change runs, `runs`, `search` and
`history` read them, each on a psycopg connection of MLflow's own pool. `calls` guards every public
call of the stores. `spooling` keeps writes while the database is away, `spooled` sends them,
`overlay` reads them. `metric_table` and `metric_extremes` read metrics of many runs as data,
`chosen_runs` selects the runs, `tag_history` reads former values of tags.
"""

# The modules that other rooms may import.
__all__ = [
    "calls",
    "chosen_runs",
    "errors",
    "metric_extremes",
    "metric_table",
    "opening",
    "session",
    "store",
    "tag_history",
]
