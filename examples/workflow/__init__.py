"""The life of a model in nine steps, on real prices: from features to a retrained champion.

Read the modules in this order. `mlflow-timescale demo` runs `steps`; `story.ipynb` is the same as
a notebook.

==============  =================================================================
market          prices, features and labels of 20 S&P 500 stocks (pandas alone)
research        steps 1 and 2: features in the store, a point-in-time training set
training        step 3: a model from a snapshot; runs by itself, too
registration    steps 3 to 6: registry, backtest, the best version, its promotion
live            step 7: decisions of every session, and a feature that comes late
evening         step 8: the monitor's daily job, and what it needs
retraining      step 9: what the alert triggers, and the new champion
story           what the steps share, and how it goes from session to session
steps           all steps in their order, and what to look at afterwards
==============  =================================================================
"""
