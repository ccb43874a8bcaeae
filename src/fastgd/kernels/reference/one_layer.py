"""Every kernel in plain NumPy: the specification of the compiled builds.

Same names, same parameters, same side effects. Outputs go into explicit `out` or `grad_…` arguments or come back as
scalars, and nothing else is written to. If a compiled kernel and the one here disagree by more than rounding error,
the compiled one is wrong.

An array argument that is "absent" has length 0 (`shift`, `sample_weight`, `steps`): a memoryview cannot be None.
"""

import numpy as np

from fastgd.kernels import codes
from fastgd.kernels.codes import ACTIVATIONS, OnRows
from fastgd.kernels.reference.losses import FORMULAS, formula_of, points, softmax
from fastgd.kernels.reference.updates import optimizer_step
from fastgd.linalg import least_subgradient

# --------------------------------------------------------------------------------------------------- one-layer model


def total_loss(X, Y, W, b, shift, sample_weight, activation, loss, gemm, totals):
    """Summed loss of a one-layer model, for each output.

    Parameters
    ----------
    X : (n, d) float32 or float64, any strides
    Y : (n, k), dtype of X, any strides
    W : (d, k), dtype of X, C-contiguous
    b : (k,), dtype of X
    shift : (d,) or (0,), dtype of X
        Subtracted from each row of X before anything else.
    sample_weight : (n,) or (0,), dtype of X
        Weight s of each row; length 0 means all ones.
    activation : int
        A number from ACTIVATIONS.
    loss : PointLoss
        A name, with a parameter or a function of the user's own; see `formula_of`. A name
        that is not known is a ValueError, before anything is written to.
    gemm : PyCapsule or None
        The BLAS matrix product for the dtype of X, which a compiled kernel may use for several outputs.
    totals : (k,) float64, written to
        totals[c] = Σᵢ sᵢ l(f(hᵢ), yᵢ)_c with h = (X − shift)W + b, accumulated in float64.
    """
    with np.errstate(all="ignore"):
        value, _ = points((X - shift if shift.size else X) @ W + b, Y, activation, loss)
        totals[:] = np.sum(value * sample_weight[:, None] if sample_weight.size else value, axis=0)


def total_loss_and_gradient(X, Y, W, b, shift, sample_weight, activation, loss, gemm, totals, grad_W, grad_b):
    """`total_loss`, with the gradient of its sum by W written to grad_W (d, k) and by b to grad_b (k,), float64.

    With δ = s·∂l/∂h the gradients are (X − shift)ᵀδ and the column sums of δ.
    """
    with np.errstate(all="ignore"):
        rows = X - shift if shift.size else X
        value, delta = points(rows @ W + b, Y, activation, loss)
        if sample_weight.size:
            value, delta = value * sample_weight[:, None], delta * sample_weight[:, None]
        totals[:] = value.sum(axis=0)
        grad_W[:] = rows.T.astype(np.float64) @ delta
        grad_b[:] = delta.sum(axis=0)


def block_sums(X, Y, W, b, shift, sample_weight, activation, loss, gemm, edges, sums):
    """`total_loss_and_gradient`, or `total_loss`, of each of several blocks of rows.

    Parameters
    ----------
    edges : (m + 1,) int64
        Block j holds the rows from edges[j] to edges[j + 1], the last one excepted; no block is empty.
    sums : (m, k + d·k + k) or (m, k) float64, written to
        A row for each block: totals, grad_W and grad_b one behind the other, or the totals alone.
    """
    k, shape = W.shape[1], W.shape
    for out, first, last in zip(sums, edges[:-1], edges[1:], strict=True):
        part = slice(first, last)
        data = X[part], Y[part], W, b, shift, sample_weight[part], activation, loss, gemm, out[:k]
        if len(out) == k:
            total_loss(*data)
        else:
            total_loss_and_gradient(*data, out[k:-k].reshape(shape), out[-k:])


def value_from_sums(sums, w, fit_intercept, factor, l2, gradient):
    """The value and the gradient of an objective, from the sums of its blocks.

    Parameters
    ----------
    sums : (m, k + d·k + k) or (m, k) float64, written to
        As `block_sums` leaves them, with gradients or without. They are added up in place: row i becomes the sum of
        rows 2i and 2i + 1 (of the last one alone where there is no other), until one is left. The sum depends on m
        alone, not on who computed what.
    w : (d, k), or (d + 1, k) with fit_intercept
    factor, l2 : float
    gradient : shape and dtype of w, written to
        factor·Σ grad + l2·W, without the penalty for the intercept. With no rows there is none.

    Returns
    -------
    float
        factor·Σ loss + ½·l2·‖W‖².
    """
    k, d, m = w.shape[1], len(w) - fit_intercept, len(sums)
    with np.errstate(all="ignore"):
        while m > 1:
            for i in range(m // 2):
                sums[i] = sums[2 * i] + sums[2 * i + 1]
            if m % 2:
                sums[m // 2] = sums[m - 1]
            m = (m + 1) // 2
        total, W = sums[0], w[:d].astype(np.float64)
        if len(gradient):
            gradient[:d] = factor * total[k : k + d * k].reshape(d, k) + l2 * W
            gradient[d:] = factor * total[-k:]
        return float(factor * total[:k].sum() + (0.5 * l2 * np.sum(W**2) if l2 else 0.0))


def value_and_gradient(X, Y, w, sample_weight, activation, loss, gemm, factor, l2, edges, gradient):
    """Value of an objective, factor·Σ loss + ½·l2·‖W‖², returned, and its gradient by w, written to `gradient`.

    w is W (d, k) as a flat array, or W with b behind it; `gradient` is like it, or empty where only the value is
    wanted. It is `block_sums` (without a shift), then `value_from_sums`.
    """
    d, k = X.shape[1], Y.shape[1]
    intercept = w.size > d * k
    w, gradient = w.reshape(-1, k), gradient.reshape(-1, k)
    b = w[d] if intercept else np.zeros(k, w.dtype)
    sums = np.empty((len(edges) - 1, 2 * k + d * k if len(gradient) else k))
    block_sums(X, Y, w[:d], b, w[0, :0], sample_weight, activation, loss, gemm, edges, sums)
    return value_from_sums(sums, w, intercept, factor, l2, gradient)


def predict(X, W, b, activation, gemm, out):
    """Write f(XW + b) to out (n, k)."""
    with np.errstate(all="ignore"):
        h = X @ W + b
        out[:] = softmax(h) if activation == ACTIVATIONS["softmax"] else FORMULAS[activation][0](h)


def update(w, g, lr):
    """One step of gradient descent on a flat array, in place: w ← w − lr·g. All in the dtype of w."""
    with np.errstate(all="ignore"):
        w -= w.dtype.type(lr) * g


def apply_activation(h, activation, out):
    """Write f(h) to out; both flat, of one dtype."""
    with np.errstate(all="ignore"):
        out[:] = FORMULAS[activation][0](h)


def apply_derivative(h, activation, out):
    """Write f'(h) to out; both flat, of one dtype."""
    with np.errstate(all="ignore"):
        out[:] = FORMULAS[activation][1](h)


# ----------------------------------------------------------------------------------------------------- runs of steps


def descend(
    X,
    Y,
    w,
    sample_weight,
    activation,
    loss,
    gemm,
    factor,
    l2,
    offset,
    rates,
    gap_factor,
    gap_floor,
    overshoots,
    overshoot_growth,
    state,
    gradient,
    previous,
    funs,
    norms,
    points,
    kind,
    parameters,
    moments,
    done,
    penalised,
    lower,
    upper,
):
    """Full-batch descent on F(w) = offset + factor·Σ loss + ½·l2·‖W‖² + l1·‖W‖₁ by a rule, w ← w − rate·∇F(w) or
    another one, in place.

    Parameters
    ----------
    X, Y, sample_weight, activation, loss, gemm
        As for `total_loss`.
    w : (d, k) or (d + 1, k), dtype of X, written to
        Weights W and, where there is one row more, the intercepts b, which l2 leaves alone.
    rates : (steps,) float64
    gap_factor, gap_floor : float
        Stop where ‖∇F‖² ≤ gap_factor·max(F, gap_floor·F₀), F₀ being the value at the start of the run.
    overshoots, overshoot_growth : float
        Stop once so many steps in a row have overshot (the gradient turned back and grew; for a rule that may go uphill
        for a while: it grew) and its norm has grown by that factor meanwhile, and F is above F₀.
    state : (8,) float64, written to
        BEGUN, OVERSHOOTS, GROWTH, CURVATURE, NORM, RATE, FIRST_FUN, FUN: what one call leaves for the next. A run
        starts with (0, 0, 1, 0, 0, 0, 0, 0).
    gradient : shape and dtype of w, written to
        ∇F at the last point where all was finite; read as that of the step before.
    previous : shape and dtype of w, written to
        The point before the last step.
    funs, norms : (steps,) float64, written to
        F and ‖∇F‖ at the point before each step; with l1 or bounds the norm is that of the shortest subgradient, and
        it is the one that gap_factor is for.
    points : (steps, *shape of w) or (0, 0, 0), written to
        That point.
    kind, parameters, moments, penalised, lower, upper
        The rule; see `optimizer_step`. Its arrays go along with w row by row.
    done : int
        Steps taken before this call.

    Returns
    -------
    step : int
        The steps taken.
    reason : int
        ALL_STEPS; or REACHED, OVERSHOOTING, with everything evaluated at w and recorded in row `step`; or NOT_FINITE,
        with w back at the point before, if there is one.
    """
    formula_of(activation, loss)
    d, k = X.shape[1], w.shape[1]
    W, b = w[:d], w[d] if len(w) > d else np.zeros(k, w.dtype)
    shift, totals, grad_W, grad_b = np.empty(0, X.dtype), np.empty(k), np.empty((d, k)), np.empty(k)
    l1, limits = float(parameters[codes.L1]), (penalised, lower, upper)
    may_rise = kind not in (codes.RULES["gd"], codes.RULES["asgd"])
    with np.errstate(all="ignore"):
        for step, rate in enumerate(rates):
            total_loss_and_gradient(X, Y, W, b, shift, sample_weight, activation, loss, gemm, totals, grad_W, grad_b)
            fun = offset + factor * totals.sum() + 0.5 * l2 * np.sum(np.square(W, dtype=np.float64))
            if l1:
                fun += l1 * np.sum(np.abs(w.reshape(-1)[:penalised]), dtype=np.float64)
            new = np.vstack([factor * grad_W + l2 * W, factor * grad_b])[: len(w)].astype(w.dtype).astype(np.float64)
            before = gradient.astype(np.float64)
            norm = np.sqrt(np.sum(new**2))
            funs[step], norms[step] = fun, norm
            if len(points):
                points[step] = w
            if not (np.isfinite(norm) and np.isfinite(fun)):
                if state[OnRows.BEGUN]:
                    w[:] = previous
                return step, OnRows.NOT_FINITE
            gradient[:] = new
            if l1 or lower.size:
                least = least_subgradient(w.reshape(-1), gradient.reshape(-1), l1, *limits)
                norms[step] = np.sqrt(np.sum(least**2))
            turned = may_rise or np.sum(new * before) < 0
            if not state[OnRows.BEGUN]:
                state[OnRows.FIRST_FUN] = fun
            elif norm > state[OnRows.NORM] and turned and state[OnRows.RATE] * state[OnRows.NORM] > 0:
                state[OnRows.OVERSHOOTS] += 1
                state[OnRows.GROWTH] *= norm / state[OnRows.NORM]
                if state[OnRows.OVERSHOOTS] == 1 or state[OnRows.GROWTH] < overshoot_growth**3:
                    distance = np.sqrt(np.sum((w.astype(np.float64) - previous) ** 2))
                    state[OnRows.CURVATURE] = np.sqrt(np.sum((new - before) ** 2)) / distance if distance else 0
                grown = state[OnRows.OVERSHOOTS] >= overshoots and state[OnRows.GROWTH] >= overshoot_growth
                if grown and fun > state[OnRows.FIRST_FUN]:
                    return step, OnRows.OVERSHOOTING
            else:
                state[OnRows.OVERSHOOTS], state[OnRows.GROWTH] = 0, 1
            if norms[step] ** 2 <= gap_factor * max(fun, gap_floor * state[OnRows.FIRST_FUN]):
                return step, OnRows.REACHED
            previous[:] = w
            flat = w.reshape(-1), gradient.reshape(-1), moments
            optimizer_step(kind, parameters, *flat, rate, done + step + 1, *limits)
            state[OnRows.BEGUN], state[OnRows.NORM], state[OnRows.RATE], state[OnRows.FUN] = 1, norm, rate, fun
    return len(rates), OnRows.ALL_STEPS


MASK = (1 << 64) - 1


def _mixed(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def shuffle(seed, epoch, block, first, out):
    """Write a permutation of first, first + 1, … to out (int64): a function of (seed, epoch, block) alone.

    Fisher and Yates' shuffle with random numbers from a counter: draw i is the SplitMix64 finaliser (Steele, Lea &
    Flood, OOPSLA 2014) of key + i·0x9E3779B97F4A7C15, the key being made of seed, epoch and block in the same way.
    """
    key = _mixed((_mixed((_mixed((seed + 0x9E3779B97F4A7C15) & MASK) + epoch + 1) & MASK) + block + 1) & MASK)
    out[:] = np.arange(first, first + len(out))
    for i in range(len(out) - 1, 0, -1):
        j = ((_mixed((key + i * 0x9E3779B97F4A7C15) & MASK) >> 32) * (i + 1)) >> 32
        out[i], out[j] = out[j], out[i]


def _batches(order, batch, rates):
    return [(order[i * batch : (i + 1) * batch], rate) for i, rate in enumerate(rates)]


def stochastic(
    X,
    Y,
    w,
    sample_weight,
    activation,
    loss,
    factor,
    l2,
    order,
    batch,
    mean,
    rates,
    kind,
    parameters,
    moments,
    done,
    penalised,
    lower,
    upper,
):
    """Stochastic descent, a step for every `batch` rows of `order`, on w in place.

    The step on m rows is  W ← (1 − rate·λ)·W − rate·f·xᵀδ,  b ← b − rate·f·Σδ, with δ = s·∂l/∂h at the weights before
    it; or that of another rule with the same gradient, λ·W + f·xᵀδ and f·Σδ. For a loss that is a mean over samples
    f = factor/m and λ = l2; for a sum f = factor and λ = l2·m/n, so that a step is on average m/n of a full one.

    Parameters
    ----------
    X, Y, sample_weight, activation, loss
        As for `total_loss`.
    w : (d, k) or (d + 1, k), dtype of X, written to
        As for `descend`.
    order : (rows,) int64
        Numbers of rows.
    batch : int
    mean : bool
    rates : (ceil(rows / batch),) float64
    kind, parameters, moments, done, penalised, lower, upper
        As for `descend`.
    """
    formula_of(activation, loss)
    n, d = X.shape
    W, b = w[:d], w[d] if len(w) > d else np.zeros(w.shape[1], w.dtype)
    gradient = np.zeros_like(w)
    with np.errstate(all="ignore"):
        for step, (rows, rate) in enumerate(_batches(order, batch, rates), done + 1):
            m, x = len(rows), X[rows]
            _, delta = points(x @ W + b, Y[rows], activation, loss)
            if sample_weight.size:
                delta = delta * sample_weight[rows][:, None]
            delta = (factor / m if mean else factor) * delta
            gradient[:d] = (l2 if mean else l2 * m / n) * W + x.T.astype(np.float64) @ delta
            gradient[d:] = delta.sum(axis=0)
            flat = w.reshape(-1), gradient.reshape(-1), moments
            optimizer_step(kind, parameters, *flat, rate, step, penalised, lower, upper)


# ---------------------------------------------------------------------------------------------------------- CSR rows


def _dense(data, indices, indptr, n, d):
    """The CSR rows as an array; entries that stand twice are added."""
    X = np.zeros((n, d), data.dtype)
    stored = slice(indptr[0], indptr[-1])
    np.add.at(X, (np.repeat(np.arange(n), np.diff(indptr)), indices[stored]), data[stored])
    return X


def sparse_pass(data, indices, indptr, Y, W, b, sample_weight, activation, loss, totals, grad_W, grad_b):
    """`total_loss_and_gradient` of CSR rows, or, with a grad_W of no rows, `total_loss`.

    Parameters
    ----------
    data, indices, indptr
        As scipy.sparse.csr_array has them; indptr (n + 1,) may be a piece of a longer one, pointing into all of data.
    """
    X, shift = _dense(data, indices, indptr, len(Y), len(W)), np.empty(0, data.dtype)
    common = X, Y, W, b, shift, sample_weight, activation, loss, None, totals
    if len(grad_W):
        total_loss_and_gradient(*common, grad_W, grad_b)
    else:
        total_loss(*common)


def sparse_stochastic(
    data,
    indices,
    indptr,
    Y,
    w,
    d,
    sample_weight,
    activation,
    loss,
    factor,
    l2,
    order,
    batch,
    mean,
    rates,
    kind,
    parameters,
    moments,
    done,
    penalised,
    lower,
    upper,
):
    """`stochastic` on CSR rows of d columns."""
    X = _dense(data, indices, indptr, len(Y), d)
    rule = kind, parameters, moments, done, penalised, lower, upper
    stochastic(X, Y, w, sample_weight, activation, loss, factor, l2, order, batch, mean, rates, *rule)
