"""Stochastic descent: steps on a few rows each, in an order that is shuffled anew for every epoch."""

import itertools

import numpy as np

from fastgd.data.order import epoch_order

# A kernel that takes many steps comes back after about so many multiplications (some 50 ms).
BURST_WORK = 1 << 25
# A loss above this multiple of the first is a divergence; one above the first by less may be noise.
HIGHER = 10.0
# Above this before its end, where the rule may go uphill for a while.
HIGHER_WHILE = 1e4


def stochastic(run, batch, seed):
    """The stochastic loop of a Run on Columns. A batch never reaches over from one piece of an epoch into the next."""
    path, objective, run.noisy = run.path, run.path.objective, True
    rows, n = objective.rows, objective.rows.n
    batch = min(batch, n)
    mean = objective.loss != "sse"
    # factor/m makes the mean over m rows of a loss whose full gradient is factor·Σ, on average.
    factor = objective.factor * n if mean else objective.factor
    if kept := run.resumed:
        w, point, step = kept["w"], kept["point"], kept["step"]
        begun = kept["epoch"], kept["piece"], kept["start"]
    else:
        w, step, begun = path.start.copy(), 0, (0, 0, 0)
        point = run.point(0, w.copy(), want_fun=True)
        run.judge(point, None)
        if result := run.look_at(point):
            return result
    higher = HIGHER_WHILE if run.update.optimizer.may_rise else HIGHER
    each = run.looks_at_each_step or run.recorder.on
    length = batch if each else batch * max(1, BURST_WORK // (batch * (rows.values // n + 16) * rows.k))
    for epoch in itertools.count(begun[0]):
        for piece, order in enumerate(epoch_order(seed, epoch, n)):
            if (epoch, piece) < begun[:2]:
                continue
            start = begun[2] if (epoch, piece) == begun[:2] else 0
            while start < len(order):
                before = w.copy()
                run.latest = step, before
                run.keep(step, w=w, point=point, epoch=epoch, piece=piece, start=start)
                if step == run.limit:
                    return _end(run, run.point(step, w, want_fun=True))
                part = order[start : start + length]
                count = min(-(-len(part) // batch), run.limit - step)
                part = part[: count * batch]
                rates = run.rates(step, count)
                rows.stochastic(
                    w.reshape(objective.shape[0], -1), *objective.codes, factor, objective.l2, part, batch, mean, rates,
                    run.update.kernel_arguments,
                )  # fmt: skip
                run.update.took(count)
                run.last_rate = rates[-1]
                path.njev += len(part) / n
                step, start = step + count, start + len(part)
                if not np.all(np.isfinite(w)):
                    last = run.point(step - count, before, rates[-1], want_fun=True)
                    what = "the weights are no longer finite"
                    raise run.diverged(last, last.lr, what, step=step, stable=_stable_rate(run, batch))
                if each:
                    run.took(step - 1, rates[-1])
                if run.looks_at_each_step or run.recorder.takes(step):
                    point = run.point(step, w.copy(), want_fun=True)
                    _refuse_divergence(run, point, higher)
                    if result := run.look_at(point, judge_tol=False):
                        return result
                elif run.stopping.out_of_time():
                    return run.out_of_time(run.point(step, w.copy(), want_fun=True))
                elif run.bar is not None:
                    run.bar.update(count)
        if run.tol is not None or run.observe or run.stopping.looks_at_points:
            if point.step != step:
                point = run.point(step, w.copy(), want_fun=True)
                _refuse_divergence(run, point, higher)
            if run.observe:
                run.observe(point.fun)
            if result := run.ended(point):
                return result


def _stable_rate(run, batch):
    """The rule's largest stable rate for the row with the largest curvature: no step on one row overshoots below it."""
    objective = run.path.objective
    if not np.isfinite(objective.loss_curvature):
        return None
    longest = max(
        float(np.max(np.sum(A**2, axis=1))) for A, *_ in objective.design(0.0, np.ones(objective.rows.d), 1.0)
    )
    # The factor of a mean is 1/n; a step follows the gradient of a mean over the batch, or of a sum over it.
    times = objective.rows.n if objective.loss != "sse" else batch
    curvature = objective.loss_curvature * times * longest + objective.l2
    return run.update.optimizer.stable_rate(curvature) if longest else None


def _refuse_divergence(run, point, higher=HIGHER):
    if not point.finite or point.fun > higher * abs(run.first_fun) + 1e-300:
        lr = run.last_rate if point.step else None
        what = f"the value has risen from {run.first_fun:.3g} to {point.fun:.3g}"
        raise run.diverged(point, lr, what, stable=_stable_rate(run, 1))


def _end(run, point):
    if point.step:
        _refuse_divergence(run, point)
    return run.at_limit(point)
