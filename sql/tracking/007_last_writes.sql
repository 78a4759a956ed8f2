--! requires: mlflow metrics_rebuild
-- The time at which points of a run were last written. A backtest that is logged today has points of years
-- ago, so the time of a point does not tell. A day is enough, and makes one update a day. NULL: not since
-- this column is here, so the run's own times and those of its points have to do.
ALTER TABLE mlops.run_ranges ADD COLUMN written_on date;
