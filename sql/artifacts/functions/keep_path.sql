-- Keep the former contents of the paths of a pattern from now on, or no longer; false if that is so
-- already. What is kept stays.
CREATE OR REPLACE FUNCTION mlops.keep_path(of_pattern text, kept boolean) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE mlops.kept_paths IN SHARE ROW EXCLUSIVE MODE;
    IF kept = EXISTS (
        SELECT FROM mlops.kept_paths WHERE pattern = of_pattern AND kept_to IS NULL) THEN
        RETURN false;
    END IF;
    IF kept THEN
        INSERT INTO mlops.kept_paths (pattern) VALUES (of_pattern);
    ELSE
        UPDATE mlops.kept_paths
        SET kept_to = greatest(clock_timestamp(), kept_from + interval '1 microsecond')
        WHERE pattern = of_pattern AND kept_to IS NULL;
    END IF;
    RETURN true;
END $$;
REVOKE ALL ON FUNCTION mlops.keep_path(text, boolean) FROM PUBLIC;
