"""Entropic transport at small epsilon: log-domain Sinkhorn with epsilon scaling, and Newton steps where Sinkhorn crawls.

    min over plans P >= 0 with row sums a and column sums b of  sum_ij P_ij (C_ij + epsilon log P_ij)

(the standard sign: entropy is a gain; VirTues, Methods, prints "- epsilon log" inside the sum, which would make it a cost). Its dual
is smooth and concave in f, g: <f, a> + <g, b> - epsilon sum_ij exp((f_i + g_j - C_ij) / epsilon), with P the exponential. Sinkhorn
maximises it over f and g in turn, in logarithms, so that nothing under- or overflows. Epsilon is absolute, in the unit of the costs: at
1e-3 against squared distances of hundreds P is as sparse as an exact plan, a tree of some n + m entries, along which Sinkhorn passes mass
by diffusion: a million rounds are not enough (measured on 300 x 350). There the dual's Hessian is sparse, and damped Newton steps end it
in tens (the idea of Tang et al. 2024, "Accelerating Sinkhorn algorithm with sparse Newton iterations").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ml.transport.errors import TransportError
from ml.transport.wasserstein import Array, _checked_pair, squared_distances

EPSILON = 1e-3
TOLERANCE = 1e-8
MAX_SIDE = 4096
_SHRINK = 4.0
_ROUNDS, _STEPS = 10, 200
_SPARSE = 0.1
_LOOSE, _LOOSE_DENSE = 1e-3, 4
_NEGLIGIBLE = 1e-16
# adding t to f and taking it from g changes nothing, in every separate part of a plan, so the Hessian is singular without a trace of it
_DAMPING = 1e-13


@dataclass(frozen=True)
class EntropicPlan:
    """plan: (n, m) masses. cost: sum P C, without the entropy. objective: sum P (C + epsilon log P), which may be negative.

    error: L1 distance of the plan's two marginals from a and b together. rounds: of Sinkhorn, newton: steps, over all epsilons.
    """

    plan: Array
    cost: float
    objective: float
    error: float
    epsilon: float
    rounds: int
    newton: int


def entropic_wasserstein2(x: ArrayLike, a: ArrayLike, y: ArrayLike, b: ArrayLike, epsilon: float = EPSILON) -> float:
    """Square root of the transport cost of the entropic plan, in the unit of the vectors; never below `wasserstein2` but for rounding.

    x: (n, d), a: (n,); y: (m, d), b: (m,). epsilon: absolute, in the squared unit of the vectors. Raises TransportError as `sinkhorn`.
    """
    x, a, y, b = _checked_pair(x, a, y, b)
    return float(np.sqrt(max(sinkhorn(a, b, squared_distances(x, y), epsilon).cost, 0.0)))


def sinkhorn(a: ArrayLike, b: ArrayLike, cost: ArrayLike, epsilon: float = EPSILON, tolerance: float = TOLERANCE) -> EntropicPlan:
    """The entropic plan of weights a (n,) to b (m,), each summing to 1, under cost (n, m).

    epsilon: > 0, in the unit of the costs. tolerance: largest L1 error of both marginals together. Points without weight get no mass.
    Raises TransportError: shape, not_finite, negative_weight, weight_sum, epsilon, too_large (over 4,096 a side), not_converged.
    """
    mass, other, costs = _checked(a, b, cost, epsilon)
    rows, columns = np.flatnonzero(mass), np.flatnonzero(other)
    problem = _Problem(mass[rows], other[columns], np.ascontiguousarray(costs[np.ix_(rows, columns)]))
    level = max(float(np.ptp(problem.cost)), epsilon)
    while level > epsilon:
        problem.solve(level, _LOOSE, _LOOSE_DENSE)
        level = max(epsilon, level / _SHRINK)
    plan, error = problem.solve(epsilon, tolerance, _STEPS)
    if error > tolerance:
        sentence = f"Entropic transport at epsilon {epsilon:g} did not converge: its marginals are off by {error:.1e}, not {tolerance:.0e}."
        raise TransportError("not_converged", sentence, "Raise epsilon, or use the exact distance.")
    whole = np.zeros(costs.shape)
    whole[np.ix_(rows, columns)] = plan
    moved = float((plan * problem.cost).sum())
    positive = plan[plan > 0]
    entropy = float((positive * np.log(positive)).sum())
    return EntropicPlan(whole, moved, moved + epsilon * entropy, error, epsilon, problem.rounds, problem.newton)


def _checked(a: ArrayLike, b: ArrayLike, cost: ArrayLike, epsilon: float) -> tuple[Array, Array, Array]:
    mass, other, costs = (np.asarray(v, dtype=np.float64) for v in (a, b, cost))
    if costs.ndim != 2 or (len(mass), len(other)) != costs.shape or not costs.size:
        sentence = f"Weights of shapes {mass.shape} and {other.shape} do not fit costs of shape {costs.shape}."
        raise TransportError("shape", sentence, "Give weights (n,), (m,) and costs (n, m).")
    if max(costs.shape) > MAX_SIDE:
        sentence = f"Sets of {costs.shape[0]} and {costs.shape[1]} points are too large for a dense entropic plan."
        raise TransportError("too_large", sentence, f"Draw at most {MAX_SIDE} from each.")
    if not (epsilon > 0 and np.isfinite(epsilon)):
        raise TransportError("epsilon", f"Epsilon is {epsilon:g}; it must be above 0.", "The default is 1e-3, in the unit of the costs.")
    if not all(np.isfinite(v).all() for v in (mass, other, costs)):
        raise TransportError("not_finite", "Some weights or costs are not finite numbers.", "Leave out cells without a token.")
    if (mass < 0).any() or (other < 0).any():
        raise TransportError("negative_weight", "There is a negative weight.", "Weights are shares.")
    if abs(mass.sum() - 1) > 1e-6 or abs(other.sum() - 1) > 1e-6:
        sentence = f"The weights sum to {mass.sum():.6g} and {other.sum():.6g}, not to 1."
        raise TransportError("weight_sum", sentence, "Divide them by their sum.")
    return mass / mass.sum(), other / other.sum(), costs


def _log_sum(values: Array, axis: int) -> Array:
    top = values.max(axis=axis, keepdims=True)
    answer: Array = (np.log(np.exp(values - top).sum(axis=axis, keepdims=True)) + top).squeeze(axis)
    return answer


class _Problem:
    """Positive weights a, b and their costs, with the duals f, g that one epsilon hands on to the next."""

    def __init__(self, a: Array, b: Array, cost: Array) -> None:
        self.a, self.b, self.cost = a, b, cost
        self.f, self.g = np.zeros(len(a)), np.zeros(len(b))
        self.rounds = self.newton = 0
        self.damping = _DAMPING

    def _round(self, epsilon: float) -> None:
        self.f = epsilon * (np.log(self.a) - _log_sum((self.g[None, :] - self.cost) / epsilon, 1))
        self.g = epsilon * (np.log(self.b) - _log_sum((self.f[:, None] - self.cost) / epsilon, 0))
        self.rounds += 1

    def _plan(self, epsilon: float, f: Array, g: Array) -> Array:
        plan: Array = np.exp(np.minimum((f[:, None] + g[None, :] - self.cost) / epsilon, 300))
        return plan

    def solve(self, epsilon: float, tolerance: float, dense: int) -> tuple[Array, float]:
        """The plan and its error at one epsilon, from the duals before: Sinkhorn rounds, and Newton steps once the plan is sparse.

        dense: steps after which it gives up while the plan has many entries (there the next epsilon gains more).
        """
        sparse = False
        for step in range(_STEPS):
            for _ in range(1 if sparse else _ROUNDS):
                self._round(epsilon)
            plan = self._plan(epsilon, self.f, self.g)
            gradient = np.concatenate([self.a - plan.sum(axis=1), self.b - plan.sum(axis=0)])
            error = float(np.abs(gradient).sum())
            sparse = bool(np.count_nonzero(plan > _NEGLIGIBLE * self.a[:, None]) < _SPARSE * plan.size + 4 * len(gradient))
            if error <= tolerance or step == _STEPS - 1 or (step >= dense and not sparse):
                break  # the last step ends with a plan, not with other duals
            if sparse:
                self._newton(epsilon, plan, gradient)
        return plan, error

    def _newton(self, epsilon: float, plan: Array, gradient: Array) -> None:
        """One damped Newton step on the dual (Levenberg and Marquardt).

        The damping rises until the step lifts the dual by a share of what its slope promises, and falls where the whole step does.
        """
        from scipy.sparse import block_array, csc_array, diags_array
        from scipy.sparse.linalg import splu

        self.newton += 1
        rows, columns = plan.sum(axis=1), plan.sum(axis=0)
        i, j = np.nonzero(plan > _NEGLIGIBLE * self.a[:, None])
        kept = csc_array((plan[i, j], (i, j)), shape=plan.shape)
        hessian = block_array([[diags_array(rows), kept], [kept.T, diags_array(columns)]])
        diagonal, now, n = np.concatenate([rows, columns]), self._dual(epsilon, self.f, self.g), len(rows)
        while self.damping < 1:
            step = epsilon * splu(csc_array(hessian + diags_array(self.damping * diagonal))).solve(gradient)
            slope = float(gradient @ step)
            for up in (1.0, 0.5, 0.25):
                f, g = self.f + up * step[:n], self.g + up * step[n:]
                if self._dual(epsilon, f, g) >= now + 1e-4 * up * slope:
                    self.f, self.g = f, g
                    self.damping = max(self.damping / 100, _DAMPING) if up == 1 else self.damping
                    return
            self.damping = max(10 * self.damping, 1e-8)
        self.damping = 1e-2

    def _dual(self, epsilon: float, f: Array, g: Array) -> float:
        return float(f @ self.a + g @ self.b - epsilon * self._plan(epsilon, f, g).sum())
