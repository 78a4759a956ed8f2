"""The report page of a session."""
