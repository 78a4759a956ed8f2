"""Alert rules and what happens to an alert.

Entry points: `rules` and `presets` (conditions as data), `headroom` (how far each rule is from
opening), `simulation` (false alarms and delay), `lifecycle` (open, acknowledged, silenced,
resolved), `retraining` (which alerts are reasons to retrain), `notify` (messages), `deliveries`
(the outbox), `messages` (of one strategy), `targets` and `commands` (who gets them).
"""

# The modules that other rooms may import.
__all__ = [
    "commands",
    "deliveries",
    "headroom",
    "lifecycle",
    "messages",
    "notify",
    "presets",
    "retraining",
    "rules",
    "simulation",
    "targets",
]
