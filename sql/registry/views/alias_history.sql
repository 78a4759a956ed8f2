--! requires: mlflow
-- Which version an alias pointed to, from when to when, and who moved it.
CREATE OR REPLACE VIEW mlops.alias_history AS
SELECT workspace, name, subject AS alias, version, valid_from, valid_to, db_user, mlflow_user, reason,
    coalesce((detail ->> 'override')::boolean, false) AS override,
    ended, ended_db_user, ended_mlflow_user, ended_reason,
    authenticated_user, claimed_user, ended_authenticated_user, ended_claimed_user
FROM mlops.registry_history WHERE kind = 'alias';
