"""A drift monitor: IC, PSI and Sharpe per session, with alerts of known false-alarm rate."""
