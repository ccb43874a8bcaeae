"""Threads over numbered blocks, and sums over blocks that do not depend on the number of threads."""

import concurrent.futures
import os
import threading

import numpy as np

from fastgd import validation

# Values of X from which a pass, of about 0.2 ms, is shared among threads, which take about 0.05 ms to begin.
THREAD_VALUES = 1 << 20


def tree_sum(parts):
    """The elementwise sum of tuples of numbers or arrays, pairwise in a tree that depends on their number alone."""
    if len(parts) == 1:
        return parts[0]
    while len(parts) > 1:
        pairs = [
            tuple(a + b for a, b in zip(*pair, strict=True)) for pair in zip(parts[::2], parts[1::2], strict=False)
        ]
        parts = pairs + parts[len(parts) - len(parts) % 2 :]
    return parts[0]


def either(a, b):
    """Of two tuples of arrays of booleans: where one of them is true."""
    return tuple(x | y for x, y in zip(a, b, strict=True))


def larger(a, b):
    """Of two tuples of numbers or arrays: the larger of each two entries."""
    return tuple(np.maximum(x, y) for x, y in zip(a, b, strict=True))


def sum_of_rows(array):
    """The sum of the rows of an array, in the tree of `tree_sum`."""
    while len(array) > 1:
        pairs = array[:-1:2] + array[1::2]
        array = np.concatenate([pairs, array[-1:]]) if len(array) % 2 else pairs
    return array[0]


def job_count(n_jobs):
    """Threads for `n_jobs`, as scikit-learn counts them: None is 1, −1 is every core."""
    if n_jobs is None:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = validation.count(n_jobs, "n_jobs", minimum=-cores)
    if jobs == 0:
        raise ValueError("n_jobs must not be 0; it takes a number of threads, or −1 for all cores")
    return jobs if jobs > 0 else cores + 1 + jobs


_pool = None


def _forget_pool():
    # A forked child has no threads of its parent's pool and would wait for them for ever.
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _pool_of(size):
    """The shared pool, with at least `size` threads."""
    global _pool
    pool = _pool  # read once: another thread may replace it
    if pool is None or pool._max_workers < size:
        pool = _pool = concurrent.futures.ThreadPoolExecutor(size, thread_name_prefix="fastgd")
    return pool


class Numbers:
    """The numbers 0 to count − 1, each given to one of the threads that call `take`, until `stop`."""

    def __init__(self, count):
        self._next, self._count, self._lock = 0, count, threading.Lock()

    def take(self):
        """The next number, or None."""
        with self._lock:
            number = self._next
            if number >= self._count:
                return None
            self._next = number + 1
            return number

    def stop(self):
        with self._lock:
            self._count = 0


def over_blocks(function, blocks, jobs):
    """[function(block) for block in blocks], by up to `jobs` threads including the calling one.

    The kernels release the GIL. Each thread takes the next block as soon as it has finished one. After an error no new
    block is begun, and the first error is raised. All calls share one thread pool; if its threads are busy with another
    call, the calling thread does all the work itself instead of waiting.
    """
    if jobs <= 1 or len(blocks) == 1:
        return [function(block) for block in blocks]
    results, numbers, errors = [None] * len(blocks), Numbers(len(blocks)), []

    def work():
        try:
            while (number := numbers.take()) is not None:
                results[number] = function(blocks[number])
        except BaseException as error:
            errors.append(error)
            numbers.stop()

    helpers = min(jobs, len(blocks)) - 1
    pool = _pool_of(helpers)
    futures = [pool.submit(work) for _ in range(helpers)]
    try:
        work()
    finally:
        numbers.stop()  # no blocks are left, or KeyboardInterrupt was raised between two
        # Tasks that have not begun are cancelled: they might be queued behind another call, and have nothing to do.
        concurrent.futures.wait([future for future in futures if not future.cancel()])
    if errors:
        raise errors.pop(0)
    return results
