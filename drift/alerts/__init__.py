"""Alert rules and what happens to an alert.

Entry points: `rules` and `presets` (conditions as data), `simulation` (false alarms and delay),
`lifecycle` (open, acknowledged, silenced, resolved), `notify` (messages).
"""

# The modules that other rooms may import.
__all__ = ["lifecycle", "notify", "presets", "rules", "simulation"]
