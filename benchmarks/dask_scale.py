"""How the time of a pass over a cluster grows with the workers: predictions, held against a simulation.

    python benchmarks/dask_scale.py

The simulation makes the client's part of a pass as it is (packing the question for each worker, unpacking the answers,
adding up what is left of the tree), for workers that are asyncio tasks: each answers after a latency, and after the
time that a worker takes for its blocks. The prediction is

    latency + largest share of the values / rate + client's time of a message · workers + of a subtree · subtrees,

with the two times of the client measured on few workers. `docs/scale.md` has the table for 10¹⁰ and 10¹² rows.
"""

import argparse
import asyncio
import statistics
import time

import numpy as np
from distributed.protocol.pickle import dumps, loads

from fastgd.data.blocks import added, block_total, joined, subtrees
from fastgd.data.places import Question
from fastgd.kernels.codes import ACTIVATIONS, PointLoss

# Values of float64 per second of a worker of 16 threads, which is limited by a memory bandwidth of 100 GB/s; one thread
# takes 2.8e9 on a log loss.
WORKER_RATE = 12.5e9
# Passes of a fit on a log loss to 1e-8, and of unpenalised least squares.
PASSES = {"log loss": 8, "least squares": 4}


class Cluster:
    """Workers that are asyncio tasks."""

    def __init__(self, workers, blocks, columns, latency, seconds, scattered, seed=0):
        rng = np.random.default_rng(seed)
        where = rng.integers(workers, size=blocks) if scattered else np.arange(blocks) * workers // blocks
        self.own = [np.flatnonzero(where == w).tolist() for w in range(workers)]
        self.blocks, self.latency = blocks, latency
        # A worker's time is proportional to its blocks, `seconds` for an even share.
        self.seconds = [seconds * len(own) * workers / blocks for own in self.own]
        leaf = (rng.normal(size=columns + 2),)
        self.answers = [dumps(subtrees(dict.fromkeys(own, leaf), blocks, added)) for own in self.own]
        W, b, codes = np.zeros((columns, 1)), np.zeros(1), (ACTIVATIONS["sigmoid"], PointLoss("log"))
        self.question = Question((), block_total, (W, b, None, *codes, True), None, blocks, added)

    @property
    def subtrees(self):
        return sum(len(loads(answer)) for answer in self.answers)

    async def worker(self, number, message):
        await asyncio.sleep(self.latency + self.seconds[number])
        return self.answers[number]

    async def a_pass(self):
        messages = [dumps(self.question.to(dict(zip(own, own, strict=True)), [], (), own)) for own in self.own]
        answers = await asyncio.gather(*(self.worker(i, message) for i, message in enumerate(messages)))
        found = [part for answer in answers for part in loads(answer)]
        return joined(found, self.blocks, added)

    def timed(self, repeats=7):
        """Median seconds of a pass."""

        async def passes():
            times = []
            for _ in range(repeats):
                begun = time.perf_counter()
                await self.a_pass()
                times.append(time.perf_counter() - begun)
            return statistics.median(times)

        return asyncio.run(passes())


def calibrated(columns):
    """Seconds of the client for a message, and for a subtree."""
    few = Cluster(20, 20, columns, 0.0, 0.0, False)
    many = Cluster(20, 2000, columns, 0.0, 0.0, True)
    few_time, many_time = few.timed(25), many.timed(25)
    of_subtree = (many_time - few_time) / (many.subtrees - few.subtrees)
    return few_time / 20 - of_subtree, of_subtree


def predicted(workers, blocks, of_message, of_subtree, latency, seconds, nodes):
    return latency + seconds + of_message * workers + of_subtree * nodes


def simulate(columns=50, latency=0.002):
    of_message, of_subtree = calibrated(columns)
    print(f"client: {of_message * 1e6:.0f} µs a message, {of_subtree * 1e6:.1f} µs a subtree of {columns} columns\n")
    print("| workers | blocks | placed | share of a worker, s | predicted, ms | simulated, ms | difference |")
    print("| ---: | ---: | --- | ---: | ---: | ---: | ---: |")
    for workers, blocks, scattered, seconds in (
        (10, 100, False, 0.2), (10, 100, True, 0.2), (100, 1000, False, 0.02), (100, 1000, True, 0.02),
        (100, 10_000, True, 0.2), (300, 3000, True, 0.05), (1000, 10_000, False, 0.05), (1000, 10_000, True, 0.05),
    ):  # fmt: skip
        cluster = Cluster(workers, blocks, columns, latency, seconds, scattered)
        slowest = max(cluster.seconds)
        expected = predicted(workers, blocks, of_message, of_subtree, latency, slowest, cluster.subtrees)
        found = cluster.timed()
        print(
            f"| {workers:,} | {blocks:,} | {'at random' if scattered else 'in order'} | {slowest:.3f} "
            f"| {expected * 1e3:.1f} | {found * 1e3:.1f} | {found / expected - 1:+.0%} |"
        )
    return of_message, of_subtree


def forecast(of_message, of_subtree, columns=50, latency=0.002, per_worker=10):
    """The table of the page: fits of 10¹⁰ and 10¹² rows. A message takes `MESSAGE` more on a real connection."""
    print("\n| rows | workers | memory of each | pass | log loss | least squares |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for rows in (1e10, 1e12):
        for workers in (10, 100, 1000):
            share = rows * columns / workers
            nodes = per_worker * workers  # if dask has placed the blocks at random
            seconds = predicted(workers, nodes, of_message + MESSAGE, of_subtree, latency, share / WORKER_RATE, nodes)
            moments = share * columns / 16 / WORKER_RATE
            fits = (PASSES["log loss"] * seconds, PASSES["least squares"] * seconds + moments)
            print(
                f"| {rows:.0e} | {workers:,} | {share * 8 / 1e9:,.0f} GB | {seconds:.2f} s "
                f"| {fits[0]:,.1f} s | {fits[1]:,.1f} s |"
            )


# Seconds of the client for a call of a worker by TCP, beside packing: half of what two workers take for a call that
# returns at once.
MESSAGE = 4e-4


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--columns", type=int, default=50)
    columns = parser.parse_args().columns
    forecast(*simulate(columns), columns)
