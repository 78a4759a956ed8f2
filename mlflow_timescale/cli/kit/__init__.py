"""What all commands share: types of arguments, options, printing, exit codes, lazy groups.

A command module imports from here, and everything else when it runs, so that `--help` and shell
completion are quick.
"""

from mlflow_timescale.cli.kit.exits import Exit, exit_with
from mlflow_timescale.cli.kit.groups import LazyGroup
from mlflow_timescale.cli.kit.options import (
    as_of_option,
    by_option,
    calendar_option,
    database_option,
    default_uri,
    dry_run_option,
    entity_option,
    features_option,
    jobs_option,
    json_option,
    max_age_option,
    mlflow_option,
    output_option,
    reason_option,
    rehearsal_option,
    session_option,
    strategy_option,
    uri_option,
    workspace_option,
    yes_option,
)
from mlflow_timescale.cli.kit.printing import (
    Cell,
    counted_progress,
    note_printer,
    print_columns,
    print_error,
    print_json,
    print_message,
    print_table,
    progress,
)
from mlflow_timescale.cli.kit.servers import (
    maintenance,
    require_admin,
    require_schema,
    require_server,
)
from mlflow_timescale.cli.kit.types import Age, Day, Duration, Moment, URIType, When

__all__ = [
    "Age",
    "Cell",
    "Day",
    "Duration",
    "Exit",
    "LazyGroup",
    "Moment",
    "URIType",
    "When",
    "as_of_option",
    "by_option",
    "calendar_option",
    "counted_progress",
    "database_option",
    "default_uri",
    "dry_run_option",
    "entity_option",
    "exit_with",
    "features_option",
    "jobs_option",
    "json_option",
    "maintenance",
    "max_age_option",
    "mlflow_option",
    "note_printer",
    "output_option",
    "print_columns",
    "print_error",
    "print_json",
    "print_message",
    "print_table",
    "progress",
    "reason_option",
    "rehearsal_option",
    "require_admin",
    "require_schema",
    "require_server",
    "session_option",
    "strategy_option",
    "uri_option",
    "workspace_option",
    "yes_option",
]
