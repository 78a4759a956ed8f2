-- A pattern of paths as one of LIKE: * stands for any characters, ? for one.
CREATE OR REPLACE FUNCTION mlops.like_pattern(pattern text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT translate(regexp_replace(pattern, '([\\%_])', '\\\1', 'g'), '*?', '%_')
$$;
