"""A drift monitor: IC, PSI and Sharpe per trading session, with alerts of known false-alarm rate."""
