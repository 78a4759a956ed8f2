"""From inputs to the judged values of sessions."""
