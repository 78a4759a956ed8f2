-- Who logged or checked a file: db_user is the login of the session, and cannot be chosen.
-- authenticated_user is whom a server with authentication let in, as that login states; NULL without.
-- claimed_user is what the client claims beside it. mlflow_user is the one name of the two that older
-- clients know: a claim, unless there is an authenticated user.
-- Clients of this revision and older ones work side by side: older ones do not set these columns.
ALTER TABLE mlops.model_artifacts ADD COLUMN authenticated_user text, ADD COLUMN claimed_user text;
ALTER TABLE mlops.artifact_checks ADD COLUMN authenticated_user text, ADD COLUMN claimed_user text;
ALTER TABLE mlops.model_artifacts
    ALTER COLUMN authenticated_user
        SET DEFAULT nullif(current_setting('mlops.authenticated_user', true), ''),
    ALTER COLUMN claimed_user SET DEFAULT nullif(current_setting('mlops.claimed_user', true), '');
ALTER TABLE mlops.artifact_checks
    ALTER COLUMN authenticated_user
        SET DEFAULT nullif(current_setting('mlops.authenticated_user', true), ''),
    ALTER COLUMN claimed_user SET DEFAULT nullif(current_setting('mlops.claimed_user', true), '');
