"""Value models: the fits of value.json by pymc-marketing, an independent implementation.

The modes under flat priors on the positive parameters are the estimates of maximum likelihood. `find_MAP`
stops early, so Newton steps on the logarithms of the parameters follow, with the gradients of the model,
until a step is below 1e-8. The histories are those of value.json, to which `case` is the index. The
donations are left out: fits of them run to limits of the parameters. By hand, from the root, after value.py:

    PYTENSOR_FLAGS=base_compiledir=/tmp/pytensor python3 tests/data/golden/value_pymc.py

Needs pymc-marketing 0.19.2, pymc 5.28.5, pytensor 2.38.3, numpy, pandas and a C++ compiler.
"""

import json
import logging
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from pymc_extras.prior import Prior
from pymc_marketing.clv import BetaGeoModel, GammaGammaModel, ModifiedBetaGeoModel, ParetoNBDModel

warnings.filterwarnings("ignore")
logging.getLogger("pymc").setLevel(logging.ERROR)
HERE = Path(__file__).parent
MODELS = {
    "bg_nbd": (BetaGeoModel, ["r", "alpha", "a", "b"]),
    "mbg_nbd": (ModifiedBetaGeoModel, ["r", "alpha", "a", "b"]),
    "pareto_nbd": (ParetoNBDModel, ["r", "alpha", "s", "beta"]),
}
LARGEST_STEP = 1e-8
# Leaves out the donations, whose Pareto/NBD takes more than five minutes.
MOST_CUSTOMERS = 5000


def customers(rows):
    """One row per customer."""
    frame = pd.DataFrame(rows, columns=["frequency", "recency", "T", "n"])
    frame = frame.loc[frame.index.repeat(frame.n)].drop(columns="n").reset_index(drop=True).astype(float)
    return frame.assign(customer_id=frame.index)


def fit(kind, names, data):
    """The parameters of the mode and the log likelihood."""
    model = kind(model_config={name: Prior("HalfFlat") for name in names})
    model.fit(data=data, method="map", progressbar=False)
    found = {name: float(model.idata.posterior[name].values.squeeze()) for name in names}
    # Flat priors and no Jacobian leave the likelihood of the logarithms.
    likelihood = model.model.compile_logp(jacobian=False)
    gradient = model.model.compile_dlogp(jacobian=False)
    order = [variable.name.removesuffix("_log__") for variable in model.model.value_vars]
    assert sorted(order) == sorted(names), order

    def at(logs):
        return {f"{name}_log__": np.array(value) for name, value in zip(order, logs)}

    def slope(logs):
        return np.asarray(gradient(at(logs)), dtype=float)

    logs = np.log([found[name] for name in order])
    for _ in range(30):
        width = 1e-4
        curvature = np.array([
            (slope(logs + width * unit) - slope(logs - width * unit)) / (2 * width)
            for unit in np.eye(len(order))
        ])
        curvature = (curvature + curvature.T) / 2
        values, vectors = np.linalg.eigh(-curvature)
        # Where the likelihood is not concave, the absolute curvature still leads uphill.
        step = vectors @ (vectors.T @ slope(logs) / np.maximum(np.abs(values), 1e-6 * np.abs(values).max()))
        step *= min(1, 0.5 / np.abs(step).max())
        logs = logs + step
        if np.abs(step).max() < LARGEST_STEP:
            break
    parameters = dict(zip(order, np.exp(logs)))
    moved = max(abs(found[name] / parameters[name] - 1) for name in names)
    print(f"    find_MAP was off by {moved:.1e}; last step {np.abs(step).max():.1e}, "
          f"slope {np.abs(slope(logs)).max():.1e}, least curvature {values.min():.2g} (logarithms)")
    assert np.abs(step).max() < LARGEST_STEP and values.min() > 0, f"no maximum at {parameters}"
    return {name: float(parameters[name]) for name in names}, float(likelihood(at(logs)))


def differences(parameters, expected):
    return ", ".join(f"{name} {parameters[name] / expected[name] - 1:+.1e}" for name in parameters)


golden = json.loads((HERE / "value.json").read_text())
fits = []
for case, entry in enumerate(golden["fits"]):
    data = customers(entry["rows"])
    if len(data) > MOST_CUSTOMERS:
        print(f"{entry['name']}: left out, {len(data)} customers")
        continue
    for name, (kind, names) in MODELS.items():
        print(f"{entry['name']}, {name}, {len(data)} customers", flush=True)
        start = time.monotonic()
        parameters, log_likelihood = fit(kind, names, data)
        fits.append({"case": case, "model": name, "customers": len(data), "parameters": parameters,
                     "log_likelihood": log_likelihood})
        print(f"    less lifetimes: {differences(parameters, entry['fits'][name])}")
        print(f"    {time.monotonic() - start:.0f} s", flush=True)

print("order values")
data = pd.DataFrame(golden["gamma_gamma"]["rows"], columns=["frequency", "monetary_value"])
parameters, _ = fit(GammaGammaModel, ["p", "q", "v"], data.assign(customer_id=data.index))
print(f"    less lifetimes: {differences(parameters, golden['gamma_gamma']['fit'])}")

(HERE / "value_pymc.json").write_text(json.dumps({
    "pymc_marketing": version("pymc-marketing"),
    "fits": fits,
    "gamma_gamma": {"parameters": parameters},
}, indent=1) + "\n")
