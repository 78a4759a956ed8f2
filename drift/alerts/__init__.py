"""Alert rules and what happens to an alert.

Entry points: `rules` and `presets` (conditions as data), `headroom` (how far each rule is from
opening), `simulation` (false alarms and delay),
`lifecycle` (open, acknowledged, silenced, resolved), `notify` (messages).
"""

# The modules that other rooms may import.
__all__ = ["headroom", "lifecycle", "notify", "presets", "rules", "simulation"]
