"""What the monitor records and reads: predictions, returns, features.

Entry points: `recording` (frames into the database), `observed` (predictions and returns of a
session), `features` (feature values of a session), `feeds` (how complete they are).
"""
