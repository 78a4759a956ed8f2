--! requires: mlflow functions
--! replaces: base/0202_registry_history
-- Enter what the registry holds when its history begins.
SELECT mlops.begin_registry_history('the history begins here');
