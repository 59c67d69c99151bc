"""The screen of 742 clusters x 40 folds in 111 patients, beside a loop of scikit-learn's logistic regression and AUROC; equal values.

Run: python tests/bench/bench_discovery.py
One thread, CPU seconds. The loop is timed as one would write it (default settings). Its L-BFGS stops before the slope is exact: where the
training covariance of rank and outcome is 0 the exact slope is 0 and its sign is chance. The values that differ are fitted again to
1e-10, with scores rounded to 1e-5, and compared then. The time of one shuffling of the whole recipe is told beside it.
"""

# ruff: noqa: E402 - the number of threads must be set before numpy starts
import os
import sys
import time
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from table import table_row

from ml.discovery.biomarkers import permute
from ml.discovery.config import BiomarkerConfig
from ml.discovery.fingerprints import ranks, tertiles
from ml.discovery.screen import fold_aurocs, stratified_folds

PATIENTS, CLUSTERS, RESPONDERS, SHUFFLINGS, REPEATS = 111, 742, 54, 10, 50


def cohort(seed=0):
    """Shares of small clusters as patients have them: about half absent, the others from a few cells to a few per cent."""
    rng = np.random.default_rng(seed)
    share = np.where(rng.random((PATIENTS, CLUSTERS)) < 0.5, rng.beta(0.5, 60, (PATIENTS, CLUSTERS)), 0)
    return share, rng.permutation(np.arange(PATIENTS) < RESPONDERS), [f"patient {i}" for i in range(PATIENTS)]


def one(rank, response, held, tol, digits):
    fit = LogisticRegression(tol=tol, max_iter=1000).fit(rank[~held], response[~held])
    return roc_auc_score(response[held], np.round(fit.predict_proba(rank[held])[:, 1], digits))


def loop_of_sklearn(rank, response, folds):
    out = np.empty((len(folds), rank.shape[1]))
    for f, held in enumerate(folds):
        for j in range(rank.shape[1]):
            fit = LogisticRegression().fit(rank[~held, j : j + 1], response[~held])
            out[f, j] = roc_auc_score(response[held], fit.predict_proba(rank[held, j : j + 1])[:, 1])
    return out


def main():
    share, response, patients = cohort()
    rank = ranks(share, tertiles(share))
    folds = stratified_folds(patients, response, 4, 10, 0)
    numbers = rank.astype(np.float64)
    start = time.process_time()
    theirs = loop_of_sklearn(numbers, response, folds)
    slow = time.process_time() - start
    start = time.process_time()
    for _ in range(REPEATS):
        mine = fold_aurocs(rank, response, folds)
    quick = (time.process_time() - start) / REPEATS
    differ = np.argwhere(np.abs(mine - theirs) > 1e-12)
    exact = [one(numbers[:, [j]], response, folds[f], 1e-10, 5) for f, j in differ]
    gap = max((abs(mine[f, j] - e) for (f, j), e in zip(differ, exact)), default=0.0)
    equal = f"equal: {gap <= 1e-12} ({len(differ)} of {mine.size:,} after fitting to 1e-10)"
    name = f"discovery AUROC loop ({CLUSTERS} clusters x {len(folds)} folds)"
    print(f"{name}: scikit-learn {slow:.1f} s, ours {quick * 1e3:.1f} ms, ratio {slow / quick:.0f}x; {equal}")
    start = time.process_time()
    null = permute(share, response, patients, BiomarkerConfig(permutations=SHUFFLINGS))
    each = (time.process_time() - start) / SHUFFLINGS
    print(f"whole recipe, nested and printed, per shuffling: {each:.2f} s; 200 shufflings {200 * each:.0f} s")
    print(f"shuffled outcomes, mean AUROC: printed {np.mean(null.printed):.3f}, nested {np.mean(null.nested):.3f}")
    table_row(name, "sklearn per column", f"{slow:.1f} s", f"{quick * 1e3:.1f} ms", f"{slow / quick:.0f}x", ">= 100x", equal)


if __name__ == "__main__":
    main()
