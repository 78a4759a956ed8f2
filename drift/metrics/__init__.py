"""The numbers: PSI, rank IC, Sharpe, distances, CUSUM, multiplicity. Pure: numpy and scipy only.

The three `calculate_*` functions return a bare float, NaN where nothing can be computed. The
modules beside them return the value with its n, its status and what it is worth statistically;
there a value that cannot be computed is None, never 0.0.

>>> from drift.metrics import calculate_ic, calculate_psi, calculate_sharpe
>>> calculate_ic([1.0, 2.0, 3.0, 4.0], [0.01, 0.03, 0.02, 0.04])
0.8
>>> calculate_sharpe([0.01, 0.01, 0.01])
nan
"""

from __future__ import annotations

from .ic import calculate_ic
from .psi import calculate_psi
from .sharpe import calculate_sharpe

__all__ = ["calculate_ic", "calculate_psi", "calculate_sharpe"]
