"""Prints the values that scipy_tests.rs compares with. Made with SciPy 1.17.1 and NumPy 2.4.6:

    python3 -m venv scipy && scipy/bin/pip install scipy && scipy/bin/python reports/src/stats/scipy_values.py
"""

import numpy as np
from scipy import stats

A = [9.1, 10.4, 8.7, 11.2, 9.9, 10.8, 9.4]
B = [10.9, 12.1, 11.5, 9.8, 13.0, 12.6, 11.9, 10.2]
D = [0.11, -0.02, 0.31, 0.07, -0.05, 0.23, 0.17, 0.13, 0.29]


def walsh(d):
    return [(d[i] + d[j]) / 2 for i in range(len(d)) for j in range(i, len(d))]


def accepted(p_value, values, alpha=0.05):
    """The smallest and largest of `values` at which the test is not significant, a hair inside of each."""
    inside = [v for v in sorted(values) if max(p_value(v - 1e-9), p_value(v + 1e-9)) > alpha]
    return inside[0], inside[-1]


print("wilcoxon exact", stats.wilcoxon(D, method="exact"))


def difference(x, y, axis):
    return np.mean(x, axis=axis) - np.mean(y, axis=axis)


print("permutation independent", stats.permutation_test((A, B), difference, n_resamples=np.inf).pvalue)
print(
    "permutation paired",
    stats.permutation_test((D,), lambda x, axis: np.mean(x, axis=axis), permutation_type="samples", n_resamples=np.inf).pvalue,
)
print("hodges-lehmann paired", np.exp(np.median(walsh(D))))
print("its interval", np.exp(accepted(lambda s: stats.wilcoxon(np.array(D) - s, method="exact").pvalue, walsh(D))))
print("quantiles", [float(np.quantile(B, share)) for share in (0.1, 0.25, 0.333, 0.9)])
print("gmean", stats.gmean([0.5, 2.0, 3.0, 0.7]))
