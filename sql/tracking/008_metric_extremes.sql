--! requires: mlflow metrics_rebuild
-- The least and the greatest value of each series, kept with its marks: each mark has those of the points since
-- the previous mark, that one included. A read takes them from the marks and from the points after the
-- last mark, so it is exact at any time, and a write costs no row more. Infinity and -Infinity: all of these
-- points are NaN. NULL: a mark of an earlier version; the series is read as a whole then.
-- Older clients go on: the trigger writes the marks.
ALTER TABLE mlops.metric_marks
    ADD COLUMN min_value double precision, ADD COLUMN max_value double precision;
