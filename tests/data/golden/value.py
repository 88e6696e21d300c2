"""Value models: forecasts by the published formulas in mpmath, and fits by lifetimes.

The forecasts are those of Fader, Hardie and Lee (2005) for BG/NBD and Gamma-Gamma, of Batislam et al.
(2007) for MBG/NBD and of Fader and Hardie (2005) for Pareto/NBD, evaluated with 60 digits, so the
singular parameters (a = 1, s = 1) are the limits. The fits are on example transactions that lifetimes
bundles, on its donations, and on customers that its generators draw. By hand, from the root:

    python3 tests/data/golden/value.py

Needs lifetimes 0.11.3, mpmath 1.4, numpy and pandas.
"""

import contextlib
import io
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from lifetimes import BetaGeoFitter, GammaGammaFitter, ModifiedBetaGeoFitter, ParetoNBDFitter
from lifetimes import generate_data, utils
from lifetimes.datasets import load_donations, load_transaction_data
from lifetimes.utils import ConvergenceError
from mpmath import hyp2f1, mp, mpf, quad, exp, log

warnings.filterwarnings("ignore")
mp.dps = 60
HERE = Path(__file__).parent
TINY = mpf("1e-25")
HORIZONS = [30, 90, 365]


def beta_geometric(r, alpha, a, b, x, tx, T, first_counts):
    stayed = b + x + (1 if first_counts else 0)
    gone = a / (stayed - 1) * ((alpha + T) / (alpha + tx)) ** (r + x)
    if x == 0 and not first_counts:
        gone = mpf(0)
    alive = 1 / (1 + gone)
    c = a + stayed - 1
    a1, c1 = a, c
    if abs(a - 1) < TINY:
        a1 = a + TINY
        c1 = a1 + stayed - 1
    expected = []
    for t in HORIZONS:
        tail = ((alpha + T) / (alpha + T + t)) ** (r + x)
        series = hyp2f1(r + x, stayed, c1, t / (alpha + T + t))
        expected.append(alive * c1 / (a1 - 1) * (1 - tail * series))
    return alive, expected


def pareto(r, alpha, s, beta, x, tx, T):
    def left(y):
        if alpha >= beta:
            z = (alpha - beta) / (alpha + y)
            return hyp2f1(r + s + x, s + 1, r + s + x + 1, z) / (alpha + y) ** (r + s + x)
        z = (beta - alpha) / (beta + y)
        return hyp2f1(r + s + x, r + x, r + s + x + 1, z) / (beta + y) ** (r + s + x)

    gone = s / (r + s + x) * (alpha + T) ** (r + x) * (beta + T) ** s * (left(tx) - left(T))
    alive = 1 / (1 + gone)
    s1 = s + TINY if abs(s - 1) < TINY else s
    expected = []
    for t in HORIZONS:
        ratio = ((beta + T) / (beta + T + t)) ** (s1 - 1)
        expected.append(alive * (r + x) * (beta + T) / ((alpha + T) * (s1 - 1)) * (1 - ratio))
    return alive, expected


def discounted(orders_until, days=1095, rate=mpf("0.1")):
    """Discounted orders, by integration by parts."""
    force = log(1 + rate) / 365
    integral = quad(lambda t: orders_until(t) * exp(-force * t), [0, 10, 100, days])
    return orders_until(mpf(days)) * exp(-force * days) + force * integral


def random_points(rng, count):
    points = []
    for i in range(count):
        model = ["bg_nbd", "mbg_nbd", "pareto_nbd"][i % 3]
        first = np.exp(rng.uniform(np.log(0.1), np.log(8)))
        alpha = np.exp(rng.uniform(np.log(3), np.log(300)))
        third = np.exp(rng.uniform(np.log(0.1), np.log(8)))
        if model == "pareto_nbd":
            fourth = np.exp(rng.uniform(np.log(3), np.log(900)))
            fourth = alpha if i % 60 == 2 else fourth
        else:
            fourth = np.exp(rng.uniform(np.log(0.1), np.log(20)))
        if i % 7 == 0:
            third = 1.0
        T = int(rng.integers(0, 1500))
        x = 0 if i % 5 == 0 or T == 0 else int(rng.integers(1, min(T, 120) + 1))
        tx = 0 if x == 0 else (T if i % 11 == 0 else int(rng.integers(x, T + 1)))
        points.append((model, [first, alpha, third, fourth], x, tx, T))
    return points


def named(model, parameters, x, tx, T):
    return {"model": model, "parameters": [float(v) for v in parameters], "x": x, "t_x": tx, "t": T}


def forecast(model, parameters, x, tx, T):
    p = [mpf(float(v)) for v in parameters]
    if model == "pareto_nbd":
        return pareto(*p, x, tx, T)
    return beta_geometric(*p, x, tx, T, model == "mbg_nbd")


def collapse(frequency, recency, age, weights=None):
    frame = pd.DataFrame({"x": frequency, "tx": recency, "T": age, "n": weights if weights is not None else 1})
    frame = frame.astype(int).groupby(["x", "tx", "T"], as_index=False).n.sum()
    return frame


def fit(frame, fitter):
    arguments = (frame.x, frame.tx, frame["T"])
    return converged(lambda model, tol: model.fit(*arguments, weights=frame.n, tol=tol), fitter)


def converged(run, fitter):
    """The parameters at the smallest tolerance that rounding allows; none if there is none."""
    for tol in [1e-10, 1e-9, 1e-8, 1e-7, 1e-6]:
        model = fitter(penalizer_coef=0.0)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                run(model, tol)
        except ConvergenceError:
            continue
        return {name: float(value) for name, value in model.params_.items()}
    return None


rng = np.random.default_rng(24)
points = []
for model, parameters, x, tx, T in random_points(rng, 1000):
    alive, expected = forecast(model, parameters, x, tx, T)
    points.append(named(model, parameters, x, tx, T)
                  | {"alive": float(alive), "orders": [float(one) for one in expected]})

spend = []
for i in range(200):
    p, q, v = np.exp(rng.uniform(np.log(0.5), np.log(20), 3))
    q, v, x = q + 1.2, v * 10, i % 9
    z = float(np.round(rng.lognormal(3, 1), 2))
    P, Q, V = mpf(float(p)), mpf(float(q)), mpf(float(v))
    w = P * x / (P * x + Q - 1)
    value = (1 - w) * V * P / (Q - 1) + w * mpf(z)
    spend.append({"p": float(p), "q": float(q), "v": float(v), "x": x, "z": z, "value": float(value)})

lifetime = []
for model, parameters, x, tx, T in random_points(rng, 60):
    mp.dps = 45

    def until(t):
        global HORIZONS
        HORIZONS = [t]
        return forecast(model, parameters, x, tx, T)[1][0]

    lifetime.append(named(model, parameters, x, tx, T) | {"discounted": float(discounted(until))})
mp.dps = 60

transactions = load_transaction_data()
summary = utils.summary_data_from_transaction_data(transactions, "id", "date", observation_period_end="2014-12-31")
donations = load_donations()
np.random.seed(7)
drawn = {
    "drawn by BG/NBD": generate_data.beta_geometric_nbd_model(np.full(3000, 400), 0.6, 25.0, 0.8, 2.4, size=3000),
    "drawn by MBG/NBD": generate_data.modified_beta_geometric_nbd_model(np.full(3000, 400), 0.9, 40.0, 0.7, 3.0, size=3000),
    "drawn by Pareto/NBD": generate_data.pareto_nbd_model(np.full(3000, 400), 0.7, 30.0, 0.6, 150.0, size=3000),
}
frames = {
    "example transactions": collapse(summary.frequency, summary.recency, summary["T"]),
    "donations": collapse(donations.frequency, donations.recency, donations.periods, donations.weights),
}
for name, frame in drawn.items():
    frames[name] = collapse(frame.frequency, np.ceil(frame.recency), frame["T"])
fits = []
for name, frame in frames.items():
    entry = {"name": name, "rows": frame[["x", "tx", "T", "n"]].values.tolist(), "fits": {}}
    for key, fitter in [("bg_nbd", BetaGeoFitter), ("mbg_nbd", ModifiedBetaGeoFitter), ("pareto_nbd", ParetoNBDFitter)]:
        fitted = fit(frame, fitter)
        if fitted:
            entry["fits"][key] = fitted
    print(name, len(frame), entry["fits"])
    fits.append(entry)

p, q, v = 4.0, 3.5, 60.0
days = rng.poisson(3, 2500) + 1
own = rng.gamma(q, 1 / v, 2500)
means = np.maximum(rng.gamma(p * days, 1 / own) / days, 0.01).round(2)
gamma_gamma = {
    "rows": [[int(d), float(m)] for d, m in zip(days, means)],
    "fit": converged(lambda model, tol: model.fit(pd.Series(days), pd.Series(means), tol=tol), GammaGammaFitter),
}
print(gamma_gamma["fit"])

# Histories of customers with a value on each order, some with several orders a day.
some = transactions[transactions.id < 120].copy()
some = pd.concat([some, some.sample(150, random_state=1)])
some["value"] = rng.lognormal(3, 0.8, len(some)).round(2)
days = utils.summary_data_from_transaction_data(
    some, "id", "date", monetary_value_col="value", observation_period_end="2014-12-31")
histories = [
    {
        "orders": [[str(day)[:10], value] for day, value in zip(orders.date, orders.value)],
        "x": int(days.frequency[customer]),
        "t_x": int(days.recency[customer]),
        "t": int(days["T"][customer]),
        "mean": float(days.monetary_value[customer]),
    }
    for customer, orders in some.groupby("id")
]

(HERE / "value.json").write_text(json.dumps({
    "points": points, "spend": spend, "lifetime": lifetime, "fits": fits, "gamma_gamma": gamma_gamma,
    "histories": histories,
}) + "\n")
