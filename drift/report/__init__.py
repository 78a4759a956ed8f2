"""The report of a session as one HTML page.

Entry points: `contents` (what is shown, from stored values), `drawing` and `incident_figure`
(matplotlib figures), `axes` (what they share), `page` (the HTML), `templates` (the style of all
pages).
"""

# The modules that other rooms may import.
__all__ = ["axes", "contents", "drawing", "incident_figure", "page", "templates"]
