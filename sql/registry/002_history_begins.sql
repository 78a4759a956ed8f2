--! requires: mlflow functions
--! replaces: base/0202_registry_history
-- What the registry holds when its history begins.
SELECT mlops.begin_registry_history('the history begins here');
