"""Fits BG/NBD with lifetimes: value_peer.py FILE, an int32 file of x, t_x and T of each customer.

Prints the seconds of the fit and the parameters r, alpha, a and b.
"""

import sys
import time
import warnings

import numpy as np
from lifetimes import BetaGeoFitter

warnings.filterwarnings("ignore")
x, t_x, t = np.fromfile(sys.argv[1], "<i4").reshape(-1, 3).T
model = BetaGeoFitter(penalizer_coef=0.0)
started = time.perf_counter()
model.fit(x, t_x, t)
print(time.perf_counter() - started, *(model.params_[name] for name in ["r", "alpha", "a", "b"]))
