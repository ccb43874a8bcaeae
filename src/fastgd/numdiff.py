"""Derivatives of any function, from its values alone."""

import numpy as np

from fastgd import kernels, validation

KERNELS = {"central": "central_differences", "forward": "forward_differences"}
SCHEMES = tuple(KERNELS)
NAN_POLICIES = {"raise": validation.finite_number, "propagate": validation.any_number}

# What the kernels take for "the library's own steps" (`reference.RELATIVE_STEP`).
OWN_STEPS = np.empty(0)


def numerical_diff(f, x, h=1e-4):
    """Derivative of a function of one number, by the central difference of the textbook.

    (f(x + h) − f(x − h)) / ((x + h) − (x − h)): the divisor is the distance between the two points as they are in
    floating point, which differs from 2h in the last digits of x.

    Parameters
    ----------
    f : callable
        Takes a float and returns a real number; for an array x it takes the array and works elementwise.
    x : float or array_like of float
        Where; integers are promoted. Never written to.
    h : float, default 1e-4
        The step, positive. The error is about f'''(x)·h²/6 from truncation and ε·|f(x)|/h from rounding.

    Returns
    -------
    float or ndarray
        df/dx, an array of the shape of x where x is one.

    Raises
    ------
    TypeError, ValueError
        f, x or h is not of that kind, h vanishes beside x or leads beyond the largest float, or f does not return one
        finite real number for each x.

    Examples
    --------
    >>> round(numerical_diff(lambda x: x**3 + x**2 + x, 1.0), 6)
    6.0
    """
    validation.callable_(f, "f")
    h = validation.scalar(h, "h", positive=True)
    x = validation.real_array(x, "x", dtype=np.float64)
    with np.errstate(all="ignore"):
        above, below = x + h, x - h
        distance = above - below
    if not np.all(distance):
        raise ValueError(f"h = {h!r} is too small to move x = {validation.show_point(x)}")
    if not np.all(np.isfinite(distance)):
        raise ValueError(f"h = {h!r} is too large for x = {validation.show_point(x)}: the points leave the floats")
    if x.ndim == 0:
        values = [validation.finite_number(f(float(at)), at, -1) for at in (above, below)]
        return (values[0] - values[1]) / float(distance)
    values = []
    for at in (above, below):
        value = validation.real_array(f(at.copy()), "what f returned for an array x", dtype=np.float64)
        if value.shape != x.shape:
            raise ValueError(f"f must work elementwise: for x of shape {x.shape} it returned shape {value.shape}")
        values.append(value.copy())  # f may fill and return the same buffer each time
    with np.errstate(all="ignore"):
        return (values[0] - values[1]) / distance


def numerical_gradient(f, x, h=None, *, scheme="central", args=(), nan_policy="raise"):
    """Gradient of a scalar function of an array, by finite differences.

    Parameters
    ----------
    f : callable
        f(x, *args) returns one real number: a Python or NumPy scalar, or an array of one element. Each call gets a
        private float64 copy of x in its shape, so f may write to it or keep it. An exception that f raises reaches
        the caller as it is.
    x : array_like of float
        Any shape; integers and float32 are promoted to float64. Never written to.
    h : float or array_like, optional
        The step, or one for each coordinate. Without it hᵢ = ε^(1/3)·max(1, |xᵢ|) for the central scheme and
        ε^(1/2)·max(1, |xᵢ|) for the forward one, ε being 2.2e-16.
    scheme : {"central", "forward"}
        Central: (f(x + hᵢeᵢ) − f(x − hᵢeᵢ)) / 2hᵢ, 2d evaluations, error O(h²).
        Forward: (f(x + hᵢeᵢ) − f(x)) / hᵢ, d + 1 evaluations, error O(h).
        Both divide by the distance between the two points as they are in floating point.
    args : tuple
        Further arguments of f.
    nan_policy : {"raise", "propagate"}
        What to do where f returns NaN or an infinity.

    Returns
    -------
    ndarray of float64, of the shape of x; a float where x is a number.

    Raises
    ------
    TypeError
        f is not callable, x is not real, or f returned something else than a real number.
    ValueError
        x or h is not finite, h is not positive, vanishes beside x or leads beyond the largest float, or f returned
        NaN, an infinity, or several numbers; the message gives the point and the coordinate.

    Examples
    --------
    >>> numerical_gradient(lambda x: x[0] ** 2 + x[1] ** 2, [3.0, 4.0]).round(6)
    array([6., 8.])
    """
    validation.callable_(f, "f")
    validation.choice(scheme, "scheme", SCHEMES)
    validation.choice(nan_policy, "nan_policy", NAN_POLICIES)
    x = validation.real_array(x, "x", dtype=np.float64)
    if not isinstance(args, tuple):
        raise TypeError(f"args must be a tuple; got {validation.describe(args)}")
    gradient = differences(f, x, steps(x, h, scheme), scheme, args, NAN_POLICIES[nan_policy])
    return gradient if x.ndim else float(gradient)


def steps(x, h, scheme):
    """The step of each coordinate of x, flat, as the kernel of the scheme takes them: the user's h, checked."""
    if h is None:
        return OWN_STEPS
    h = validation.real_array(h, "h", dtype=np.float64)
    if h.ndim and h.shape != x.shape:
        raise ValueError(f"h must be a number or an array of the shape of x, {x.shape}; got shape {h.shape}")
    if not np.all(h > 0):
        raise ValueError(f"h must be positive; got {validation.show_point(h)}")
    return np.broadcast_to(h, x.shape).flatten()


def differences(f, x, flat_steps, scheme, args, as_number):
    """The kernel call: the gradient in the shape of x, all arguments being checked already."""
    gradient = np.empty(x.shape)
    kernel = getattr(kernels.active, KERNELS[scheme])
    if x.ndim == 1 and x.flags.c_contiguous:  # as most are, with nothing to convert
        kernel(f, x, flat_steps, x.shape, args, as_number, gradient)
    else:
        kernel(f, np.ascontiguousarray(x).reshape(-1), flat_steps, x.shape, args, as_number, gradient.reshape(-1))
    return gradient


def evaluations(d, scheme):
    """How often f is called for one gradient in d variables."""
    return {"central": 2 * d, "forward": d + 1}[scheme]
