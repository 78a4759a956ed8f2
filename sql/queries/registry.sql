-- name: attribute
-- Say for the rest of this transaction who asks for what the triggers record, and why.
SELECT set_config('mlops.user', %(user)s, true), set_config('mlops.reason', %(reason)s, true),
    set_config('mlops.override', %(override)s, true);

-- name: history
-- What was said of a model, also under its earlier names?
WITH RECURSIVE called (name, until) AS (
    SELECT %(name)s::text, 'infinity'::timestamptz
    UNION
    SELECT model.detail ->> 'renamed_from', model.valid_from
    FROM called JOIN mlops.registry_history AS model
        ON model.workspace = %(workspace)s AND model.kind = 'model' AND model.name = called.name
        AND model.detail ? 'renamed_from' AND model.valid_from < called.until
)
SELECT history.workspace, history.name, kind, subject, version, value, detail, valid_from, valid_to,
    db_user, mlflow_user, reason, ended, ended_db_user, ended_mlflow_user, ended_reason
FROM called JOIN mlops.registry_history AS history
    ON history.workspace = %(workspace)s AND history.name = called.name
    AND history.valid_from < called.until
WHERE (%(kind)s::text IS NULL OR kind = %(kind)s)
    AND (%(subject)s::text IS NULL OR subject = %(subject)s)
    AND (%(as_of)s::timestamptz IS NULL
        OR valid_from <= %(as_of)s AND (valid_to IS NULL OR valid_to > %(as_of)s))
ORDER BY valid_from, history_id;
