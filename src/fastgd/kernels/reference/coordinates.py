"""Coordinate descent on a quadratic function with an l1 penalty: what is left of an objective on some of its columns.

    ½ Σ cᵢ·(aᵢ·(v − v₀) + b)² + Σ uᵢ·(aᵢ·(v − v₀) + b) + Σ (½ρⱼ·vⱼ² + tⱼ·|vⱼ|)

u are the slopes by h at v₀, and c the curvatures. With an intercept b is the best for v at all times, so that a step of
a coordinate is one in the column less its mean. All kernels return the epochs taken and by how much, at most, the slope
of a coordinate was beyond its threshold in the last one, as a share of that (bend·|step|/tⱼ, or without a threshold
bend·|step|); they end after an epoch where that was no more than `small`.
"""

import numpy as np


def coordinate_descent(columns, curvature, means, bends, thresholds, ridges, epochs, small, zeros, slopes, v):
    """Epochs of coordinate descent on `slopes` and `v`, in place.

    Parameters
    ----------
    columns : (m, n)
        A row for each column.
    curvature : (n,) or (1,)
        c; one number where all are alike.
    means, bends : (m,)
        Σ c·a/Σ c of each column, 0 without an intercept; and Σ c·(a − mean)² + ρ.
    thresholds, ridges : (m,)
    epochs : int
    small : float
    zeros : bool
        False: weights that are 0 stay so, and their columns are not read.
    slopes : (n,)
        u at v; with an intercept it adds up to 0.
    v : (m,)

    Returns
    -------
    int, float
    """

    def gradient(j):
        return columns[j] @ slopes

    def move(j, step):
        slopes[:] += step * curvature * (columns[j] - means[j])

    if columns.shape[1] != len(slopes) or len(columns) != len(v):
        raise ValueError(f"arrays do not fit {len(columns)} columns of {columns.shape[1]} rows")
    return _descend(gradient, move, bends, thresholds, ridges, epochs if len(slopes) else 0, small, zeros, v)


def sparse_coordinate_descent(
    data, indices, indptr, curvature, scales, sums, means, bends, thresholds, ridges, epochs, small, zeros, level,
    slopes, v
):  # fmt: skip
    """`coordinate_descent` on columns in CSC form, each over its scale.

    Parameters
    ----------
    scales, sums : (m,)
        `sums` are Σ c·a.
    level : (1,)
        The slopes are slopes + level·curvature: so no step touches rows that a column does not hold.
    """
    if len(indptr) != len(v) + 1:
        raise ValueError(f"indptr has {len(indptr)} entries, v has {len(v)} columns")
    if np.any(indptr[1:] < indptr[:-1]) or (len(indices) and not 0 <= indices.min() <= indices.max() < len(slopes)):
        raise ValueError(f"indices must be rows, 0 to {len(slopes) - 1}, and indptr must not decrease")
    c = np.broadcast_to(curvature, slopes.shape)

    def gradient(j):
        part = slice(indptr[j], indptr[j + 1])
        return data[part].astype(np.float64) @ slopes[indices[part]] / scales[j] + level[0] * sums[j]

    def move(j, step):
        part = slice(indptr[j], indptr[j + 1])
        rows = indices[part]
        np.add.at(slopes, rows, step / scales[j] * c[rows] * data[part])
        level[0] -= step * means[j]

    return _descend(gradient, move, bends, thresholds, ridges, epochs if len(slopes) else 0, small, zeros, v)


def softmax_descent(
    columns, weights, P, sums, means, bends, thresholds, ridges, epochs, small, zeros, level, slopes, v
):  # fmt: skip
    """Epochs of coordinate descent on a quadratic model of a softmax, the classes of a column at once.

        ½ Σ sᵢ·zᵢᵀ(diag(pᵢ) − pᵢpᵢᵀ)zᵢ + Σ uᵢ·zᵢ + Σ (½ρⱼ·vⱼ² + tⱼ·|vⱼ|),  zᵢ = aᵢ·(v − v₀) + b

    Parameters
    ----------
    columns : (m, n)
    weights : (n,) or (1,)
        s; one number where all are alike.
    P : (k, n)
        Probabilities of the classes.
    sums, means, bends : (m, k, k)
        Σ a·H of each column, H being the matrices of the rows; these by the inverse of ΣH, 0 without an intercept; and
        Σ a²·H − sums·means, with the ridge on the diagonal.
    thresholds, ridges : (m,)
    epochs, small, zeros
        As of `coordinate_descent`; a column is left out where all its weights are 0.
    level : (k,)
        The best b for v: slopes are slopes + H·level.
    slopes : (k, n)
    v : (m, k)

    Returns
    -------
    int, float
    """
    if columns.shape[1] != P.shape[1] or slopes.shape != P.shape or v.shape != (len(columns), len(P)):
        raise ValueError(f"arrays do not fit {len(columns)} columns of {columns.shape[1]} rows and {len(P)} classes")

    def gradient(j):
        return slopes @ columns[j]

    def move(j, step):
        slopes[:] += columns[j] * weights * P * (step[:, None] - step @ P)

    matrices, epochs = (sums, means, bends), epochs if slopes.size else 0
    return _descend_classes(gradient, move, matrices, thresholds, ridges, epochs, small, zeros, level, v)


def sparse_softmax_descent(
    data, indices, indptr, scales, weights, P, sums, means, bends, thresholds, ridges, epochs, small, zeros, level,
    slopes, v
):  # fmt: skip
    """`softmax_descent` on columns in CSC form, each over its scale; P and slopes are (n, k)."""
    if P.shape != slopes.shape or v.shape[1:] != P.shape[1:] or len(scales) != len(v):
        raise ValueError(f"arrays do not fit {len(v)} columns of {len(P)} rows and {P.shape[1]} classes")
    if len(indptr) != len(v) + 1:
        raise ValueError(f"indptr has {len(indptr)} entries, v has {len(v)} columns")
    if np.any(indptr[1:] < indptr[:-1]) or (len(indices) and not 0 <= indices.min() <= indices.max() < len(slopes)):
        raise ValueError(f"indices must be rows, 0 to {len(slopes) - 1}, and indptr must not decrease")
    s = np.broadcast_to(weights, len(P))

    def gradient(j):
        part = slice(indptr[j], indptr[j + 1])
        return data[part].astype(np.float64) @ slopes[indices[part]] / scales[j]

    def move(j, step):
        part = slice(indptr[j], indptr[j + 1])
        rows = indices[part]
        changes = P[rows] * (step - (P[rows] @ step)[:, None])
        np.add.at(slopes, rows, (data[part] / scales[j] * s[rows])[:, None] * changes)

    matrices, epochs = (sums, means, bends), epochs if slopes.size else 0
    return _descend_classes(gradient, move, matrices, thresholds, ridges, epochs, small, zeros, level, v)


def gram_coordinate_descent(H, thresholds, epochs, small, gradient, v):
    """Coordinate descent on ½vᵀHv + cᵀv + Σ tⱼ·|vⱼ|, H (m, m); `gradient` (m,) is Hv + c, and is kept so."""
    if H.shape != (len(v), len(v)):
        raise ValueError(f"arrays do not fit a matrix of shape {H.shape}")

    def move(j, step):
        gradient[:] += step * H[j]

    return _descend(gradient.__getitem__, move, np.diag(H), thresholds, np.zeros(len(v)), epochs, small, True, v)


def gram_group_descent(H, starts, thresholds, epochs, small, gradient, v):
    """Descent on ½vᵀHv + cᵀv + Σ tⱼ·‖vⱼ‖ by groups j of coordinates, in place.

    Parameters
    ----------
    H : (m, m)
        The blocks of a group with itself are diagonal.
    starts : (groups + 1,) of intp
        Group j is the coordinates starts[j] to starts[j + 1] − 1.
    thresholds : (groups,)
    gradient : (m,)
        Hv + c, and is kept so.

    Returns
    -------
    int, float
        As of `coordinate_descent`; a step s of a group counts as ‖diag(H)·s‖/t.
    """
    if H.shape != (len(v), len(v)) or len(starts) != len(thresholds) + 1:
        raise ValueError(f"arrays do not fit a matrix of shape {H.shape}")
    if not len(v) or epochs <= 0:
        return 0, 0.0
    if starts[0] != 0 or starts[-1] != len(v):
        raise ValueError(f"groups must begin at 0 and end at {len(v)}")
    if np.any(np.diff(starts) < 0):
        raise ValueError("starts must not decrease")
    for epoch in range(1, epochs + 1):
        worst = 0.0
        for first, last, t in zip(starts[:-1], starts[1:], thresholds, strict=True):
            group = slice(first, last)
            bends = np.diag(H)[group]
            r = bends * v[group] - gradient[group]
            if t > 0:
                length = _length(r, bends, t)
                new = r * length / (bends * length + t)
            else:
                new = np.divide(r, bends, out=v[group].copy(), where=bends > 0)
            step = new - v[group]
            worst = max(worst, float(np.linalg.norm(bends * step)) / (t if t > 0 else 1.0))
            v[group] = v[group] + step
            gradient += step @ H[group]
        if not worst > small:
            return epoch, worst
    return epochs, worst


def _length(r, bends, t):
    """The root ν of Σ (rᵢ/(bᵢ·ν + t))² = 1, or 0 where there is none: by bisection."""
    if not np.any(bends > 0) or np.linalg.norm(r) <= t:
        return 0.0
    low = high = (np.linalg.norm(r) - t) / bends.max()
    while np.sum((r / (bends * high + t)) ** 2) > 1 and high < 1e300:
        high *= 2
    for _ in range(200):
        middle = 0.5 * (low + high)
        if np.sum((r / (bends * middle + t)) ** 2) > 1:
            low = middle
        else:
            high = middle
    return low


def take_columns(X, numbers, shift, scale, out):
    """out[j] = (X[:, numbers[j]] − shift[j])/scale[j], for X (n, d), numbers of columns (m,) and out (m, n)."""
    if out.shape != (len(numbers), len(X)) or not len(shift) == len(scale) == len(numbers):
        raise ValueError(f"arrays do not fit {len(numbers)} columns of {len(X)} rows")
    if np.any((numbers < 0) | (numbers >= X.shape[1])):
        raise ValueError(f"numbers must be columns, 0 to {X.shape[1] - 1}")
    out[...] = ((X[:, numbers].astype(np.float64) - shift) / scale).T


def column_sums(X, sums, squares):
    """Σ x and Σ x² of each column of X (n, d), into `sums` and `squares`, (d,)."""
    if not len(sums) == len(squares) == X.shape[1]:
        raise ValueError(f"arrays do not fit {X.shape[1]} columns")
    sums[:], squares[:] = X.sum(axis=0, dtype=np.float64), np.square(X, dtype=np.float64).sum(axis=0)


def column_moments(columns, curvature, sums, squares):
    """Σ c·a and Σ c·a² of each of the columns (m, n), into `sums` and `squares`, (m,); curvature is (n,)."""
    if columns.shape != (len(sums), len(curvature)) or sums.shape != squares.shape:
        raise ValueError(f"arrays do not fit {len(columns)} columns of {columns.shape[1]} rows")
    sums[:], squares[:] = columns @ curvature, columns**2 @ curvature


def _descend(gradient, move, bends, thresholds, ridges, epochs, small, zeros, v):
    worst = 0.0
    if not len(v):
        return 0, worst
    for epoch in range(1, epochs + 1):
        worst = 0.0
        for j in np.flatnonzero(bends > 0):
            if v[j] == 0 and not zeros:
                continue
            z = bends[j] * v[j] - gradient(j) - ridges[j] * v[j]
            new = np.sign(z) * max(abs(z) - thresholds[j], 0.0) / bends[j]
            if (step := new - v[j]) != 0:
                v[j] += step
                worst = max(worst, bends[j] * abs(step) / (thresholds[j] if thresholds[j] > 0 else 1.0))
                move(j, step)
        if not worst > small:
            return epoch, float(worst)
    return max(epochs, 0), float(worst)


def _descend_classes(gradient, move, matrices, thresholds, ridges, epochs, small, zeros, level, v):
    worst, (sums, means, bends) = 0.0, matrices
    if not len(v):
        return 0, worst
    for epoch in range(1, epochs + 1):
        worst = 0.0
        for j in range(len(v)):
            if not zeros and not v[j].any():
                continue
            step, beyond = _along_classes(
                v[j], gradient(j) + ridges[j] * v[j] + sums[j] @ level, bends[j], thresholds[j]
            )
            worst = max(worst, beyond)
            if step.any():
                v[j] += step
                level -= means[j] @ step
                move(j, step)
        if not worst > small:
            return epoch, float(worst)
    return max(epochs, 0), float(worst)


def _along_classes(v, gradient, bends, threshold):
    """(step, worst violation): rounds of coordinate descent in the weights of one column.

    They end where the violations are a tenth of those of the first, after 10 at the most.
    """
    start, v, worst, first = v, v.copy(), 0.0, None
    for _ in range(10):
        most = 0.0
        for c in np.flatnonzero(np.diag(bends) > 0):
            z = bends[c, c] * v[c] - gradient[c]
            change = np.sign(z) * max(abs(z) - threshold, 0.0) / bends[c, c] - v[c]
            most = max(most, bends[c, c] * abs(change) / (threshold if threshold > 0 else 1.0))
            v[c] += change
            gradient = gradient + change * bends[c]
        worst, first = max(worst, most), most if first is None else first
        if most <= 0.1 * first:
            break
    return v - start, worst
