"""What features exist: views, series, versions, and the producers of values.

Entry points: `definitions` (feature views and their checks), `selection` (features and versions
named by a caller), `series` (the integer of an entity, feature and version).
"""

# The modules that other rooms may import.
__all__ = [
    "categories",
    "definitions",
    "provenance",
    "selection",
    "series",
    "universes",
    "view_files",
]
