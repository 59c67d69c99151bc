"""Two rows of the table of hot paths: Kaplan-Meier + log-rank at n = 10,000 and Cox (Efron, p = 5) at n = 100,000.

Our path beside lifelines on the same data in one process; results are held equal in the same run. No timed assertions.
Run it alone: python tests/bench/bench_survival.py
"""

import time

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.statistics import logrank_test
from threadpoolctl import threadpool_limits

from ml.survival.cox import cox
from ml.survival.kaplan_meier import kaplan_meier
from ml.survival.logrank import logrank


def seconds(call, repeats):
    """(best time, last result) of a few runs."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        best = min(best, time.perf_counter() - start)
    return best, result


def cohort(n, p, seed=0):
    """Days (whole, so that there are ties), events, covariates."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p))
    days = np.ceil(rng.exponential(900 * np.exp(-x @ np.linspace(-0.4, 0.4, p))))
    return days, rng.random(n) < 0.6, x


def curves(n=10_000):
    """Kaplan-Meier with limits and a two-group log-rank."""
    days, event, x = cohort(n, 2)
    group = (x[:, 0] > 0).astype(int)
    halves = (group == 0, group == 1)

    def ours():
        return kaplan_meier(days, event), logrank(days, event, group)

    def theirs():
        test = logrank_test(days[halves[0]], days[halves[1]], event[halves[0]], event[halves[1]])
        return KaplanMeierFitter().fit(days, event), test

    ours_s, (curve, test) = seconds(ours, 20)
    theirs_s, (other, other_test) = seconds(theirs, 10)
    step = other.survival_function_.iloc[1:, 0].to_numpy()  # the first row is lifelines' time 0
    apart = max(float(np.abs(curve.survival - step).max()), abs(test.statistic - other_test.test_statistic) / test.statistic)
    return f"KM + log-rank, n = {n:,}", ours_s, theirs_s, apart, 1e-9


def model(n=100_000, p=5):
    """Cox with Efron ties."""
    days, event, x = cohort(n, p, seed=1)
    names = [f"x{i}" for i in range(p)]
    frame = pd.DataFrame(x, columns=names).assign(days=days, event=event)
    ours_s, fit = seconds(lambda: cox(days, event, x, names), 5)
    theirs_s, other = seconds(lambda: CoxPHFitter().fit(frame, "days", "event"), 1)
    # lifelines stops some 1e-5 standard errors before the solution, ours goes on to rounding
    by_coefficient = np.abs(fit.coefficients - other.params_.to_numpy())
    apart = max(float(by_coefficient.max()), float(np.abs(fit.se / other.standard_errors_.to_numpy() - 1).max()))
    return f"Cox, Efron, p = {p}, n = {n:,}", ours_s, theirs_s, apart, 1e-6


def main():
    print(f"{'hot path':32} {'ours':>10} {'lifelines':>10} {'ratio':>7}   equality")
    for row in (curves, model):
        with threadpool_limits(1):  # the figures are for one thread, on both sides
            name, ours_s, theirs_s, apart, allowed = row()
        verdict = "equal" if apart <= allowed else "NOT EQUAL"
        print(
            f"{name:32} {ours_s * 1e3:8.1f}ms {theirs_s * 1e3:8.1f}ms {theirs_s / ours_s:6.1f}x   {apart:.1e} <= {allowed:.0e}: {verdict}"
        )


if __name__ == "__main__":
    main()
