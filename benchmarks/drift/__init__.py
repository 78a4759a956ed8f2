"""The drift monitor: its metrics, rules, daily run, and a replay of real prices."""
