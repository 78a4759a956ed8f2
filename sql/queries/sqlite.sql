-- name: orphans
-- Which rows of a sqlite database refer to rows that are not there?
PRAGMA foreign_key_check;

-- name: delete_row
-- Remove one row.
DELETE FROM {table} WHERE rowid = ?;
