"""What features exist: views, series, versions, and who wrote them."""
