-- The distinct texts of each categorical feature. Points hold the text itself, as a JSON string, so
-- that clients without categories read what was written and not a number that stands for it. This
-- table bounds the number of distinct texts, and lists them without a scan of the points.
CREATE TABLE mlops.feature_categories (
    feature_name text COLLATE "C" NOT NULL CHECK (feature_name <> ''),
    feature_version integer NOT NULL CHECK (feature_version >= 1),
    category text COLLATE "C" NOT NULL
        CHECK (category <> '' AND char_length(category) <= 256),
    first_written timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (feature_name, feature_version, category)
);
COMMENT ON TABLE mlops.feature_categories IS
    'The distinct texts of each categorical feature, by feature and version.';
