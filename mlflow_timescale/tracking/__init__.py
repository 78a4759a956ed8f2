"""What the tracking stores do natively: statements on the session's own psycopg connection."""
