"""The report of a session as one HTML page.

Entry points: `contents` (what is shown, from stored values), `drawing` (matplotlib figures),
`page` (the HTML), `templates` (the house style of all pages).
"""

# The modules that other rooms may import.
__all__ = ["contents", "drawing", "page", "templates"]
