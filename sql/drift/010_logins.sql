-- Who decided: the login of the session, which cannot be chosen, beside the name that the caller gave
-- (accepted_by, silenced_by, repaired_by, changed_by), which is a claim. NULL: before this migration.
-- Clients of this revision and older ones work side by side: triggers set the column.
ALTER TABLE mlops.drift_references ADD COLUMN db_user text;
ALTER TABLE mlops.drift_silences ADD COLUMN db_user text;
ALTER TABLE mlops.drift_repairs ADD COLUMN db_user text;
ALTER TABLE mlops.drift_calendar_overrides ADD COLUMN db_user text;
ALTER TABLE mlops.drift_alert_events ADD COLUMN db_user text;
