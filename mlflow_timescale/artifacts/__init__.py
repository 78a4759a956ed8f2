"""Artifacts whose bytes are known: a SHA-256 ledger, a store in the database, checked downloads.

`in_database` is the store behind `timescaledb-artifacts:`, `checked` the one behind
`sha256+<scheme>:`; both are `repository.LedgeredRepository`, and both write `ledger`.
"""

# The modules that other rooms may import.
__all__ = [
    "adopt",
    "boundaries",
    "databases",
    "hashing",
    "ledger",
    "locations",
    "opening",
    "paths",
    "refusals",
    "removal",
    "repository",
    "runs",
    "spooling",
    "verify",
    "versions",
]
