--! requires: mlflow
-- Who changed the registry, as in the ledger (artifacts/003): db_user is the login, authenticated_user
-- whom a server let in, claimed_user who the client claims to be beside it. mlflow_user is the one name
-- that older clients know: a claim, unless there is an authenticated user.
-- Clients of this revision and older ones work side by side: older ones set mlflow_user only.
ALTER TABLE mlops.registry_history
    ADD COLUMN authenticated_user text, ADD COLUMN claimed_user text,
    ADD COLUMN ended_authenticated_user text, ADD COLUMN ended_claimed_user text;
