-- A location and every place above it.
CREATE OR REPLACE FUNCTION mlops.places_above(location text) RETURNS text[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT array_agg(array_to_string(parts[1:depth], '/'))
    FROM (SELECT string_to_array(location, '/') AS parts) AS whole,
        generate_series(1, cardinality(parts)) AS depth
$$;
