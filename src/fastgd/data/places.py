"""Where the blocks of a dask collection are held during a fit: in this process, or on the workers of a cluster.

A worker has one `Holder`, an actor, with the blocks that were on it; a call of an actor takes some 3 ms, a task on
blocks 15. An actor is lost with its worker: its blocks are then computed again by dask and held elsewhere.
"""

import asyncio
import itertools
import operator
import time
import typing

from fastgd.data.blocks import Failed, Holder, added, joined, read
from fastgd.errors import ClusterError

# Seconds that a cluster without any worker is waited for: a nanny takes 3 to start one again, or 20 on a busy machine.
PATIENCE = 30.0
# Seconds between two looks at the cluster while an answer is awaited.
LOOK = 1.0
# Seconds in which a worker answers that can be reached without the scheduler.
REACH = 3.0


class Question(typing.NamedTuple):
    """What holders are asked; see `Holder.call`."""

    recipe: tuple
    function: typing.Callable
    arguments: tuple
    each: dict | None
    count: int | None
    combine: typing.Callable | None

    def to(self, numbers, forget, known=(), own=None):
        """The arguments of a holder's call: what it does not know yet, and of its own blocks only."""
        recipe = tuple(
            step._replace(each=None if step.each is None or step.key in known else _some(step.each, own))
            for step in self.recipe
        )
        each = None if self.each is None else {number: self.each[number] for number in numbers}
        return recipe, self.function, (self.arguments, each), numbers, self.count, self.combine, forget


def _some(each, numbers):
    return each if numbers is None else {number: each[number] for number in numbers if number in each}


class Place:
    """What both kinds of places do.

    Attributes
    ----------
    facts : list of dict
        Of each block.
    """

    def __init__(self):
        self._keys, self._dropped = itertools.count(), []

    def new_key(self):
        return next(self._keys)

    def drop(self, key):
        """Forget the rows of a step with the next call."""
        self._dropped.append(key)

    def ask(self, recipe, numbers, function, arguments, each=None, combine=added, tree=True):
        """The total of function(rows, *arguments) over blocks, or with tree=False a list of their values.

        Parameters
        ----------
        numbers : list of int
            The blocks, in the order of the tree's leaves.
        each : dict, optional
            More arguments of each block; those that are not in it are left out.
        """
        asked = {number: leaf for leaf, number in enumerate(numbers) if each is None or number in each}
        question = Question(recipe, function, arguments, each, len(numbers) if tree else None, combine)
        forget, self._dropped = self._dropped, []
        found = self._answers(question, asked, forget)
        if tree:
            return joined(found, len(numbers), combine)
        return [(leaf, value) for _, leaf, value in sorted(found, key=operator.itemgetter(1))]

    def _of(self, answer):
        """The answer of a holder; what a function raised is raised."""
        if isinstance(answer, tuple):
            raise Failed(*answer)
        return answer

    note = ""


class Here(Place):
    """Blocks in this process, computed by one of dask's own schedulers."""

    def __init__(self, blocks, scheduler, jobs):
        super().__init__()
        import dask

        computed = dask.compute(*blocks, scheduler=scheduler)
        self._holder = Holder(tuple(range(len(blocks))), jobs, *computed)
        self.facts = [block.facts for block in computed]

    def _answers(self, question, asked, forget):
        return self._of(self._holder.call(*question.to(asked, forget)))


class Held(typing.NamedTuple):
    """The holder of a worker."""

    address: str
    actor: typing.Any  # which is there as long as this object is
    key: str
    numbers: set
    known: set  # keys of steps whose arguments it has


class Cluster(Place):
    """Blocks on the workers of a `distributed.Client`, where dask has put them.

    Parameters
    ----------
    client : Client
    blocks : list of Delayed
        Each computes a `Block`.
    """

    def __init__(self, client, blocks):
        super().__init__()
        self._client, self._blocks, self._held = client, blocks, []
        self.facts, self.lost, self._direct = [None] * len(blocks), 0, None
        if client.asynchronous:
            raise ValueError("the client of X is asynchronous: fits wait for the cluster, and take a synchronous one")
        self._hold(range(len(blocks)))

    @property
    def note(self):
        lost = f"; {self.lost} of the workers were lost on the way" if self.lost else ""
        kinds = sorted({facts["kernels"] for facts in self.facts})
        if len(kinds) > 1:
            return f"{lost}; the workers have different kernels ({', '.join(kinds)}): the last bits depend on which"
        return lost

    # ------------------------------------------------------------------------------------------------------- to ask

    def _answers(self, question, asked, forget):
        # One piece of bytes each way: distributed would serialise each array in a call by itself, which takes 4 ms.
        from distributed.protocol.pickle import dumps, loads

        found, left = [], dict(asked)
        while left:
            calls = []
            for held in self._held:
                own = {number: leaf for number, leaf in left.items() if number in held.numbers}
                if own:
                    calls.append((held, own, dumps(question.to(own, forget, held.known, held.numbers))))
            answers = self._all([(held.address, held.key, "answer", message) for held, _, message in calls])
            answers = [None if answer is None else loads(answer) for answer in answers]
            gone, failed = [], []
            for (held, own, _), answer in zip(calls, answers, strict=True):
                if answer is None:
                    gone.append(held)
                    continue
                held.known.update(step.key for step in question.recipe)
                left = {number: leaf for number, leaf in left.items() if number not in own}
                (failed if isinstance(answer, tuple) else found).append(answer)
            if failed:
                self._of(min(failed, key=operator.itemgetter(0)))
            found = [part for answer in found for part in (answer if isinstance(answer, list) else [answer])]
            if gone:
                self._replace(gone)
        return found

    def _all(self, calls):
        """What calls of actors, (address, key, method, *arguments) each, return; None of a worker that is lost."""
        self._check_client()
        try:
            return self._client.sync(self._at_once, calls)
        except RuntimeError as error:  # the loop of a closed client
            self._check_client(error)
            raise

    async def _at_once(self, calls):
        tasks = [asyncio.ensure_future(self._one(*call)) for call in calls]
        left = set(tasks)
        try:
            while left:
                _, left = await asyncio.wait(left, timeout=LOOK)
                if left:
                    there = await self._client.scheduler.identity()
                    for (address, *_), task in zip(calls, tasks, strict=True):
                        if task in left and address not in there["workers"]:
                            task.cancel()
        finally:
            for task in left:
                task.cancel()
        return [None if task.cancelled() else task.result() for task in tasks]

    async def _one(self, address, key, method, *arguments):
        """The answer of an actor: from its worker itself where it can be reached from here, else by the scheduler."""
        from distributed.protocol import to_serialize

        message = {"function": method, "actor": key, "args": [to_serialize(value) for value in arguments], "kwargs": {}}
        try:
            if self._direct is None:
                self._direct = await self._reaches(address)
            if self._direct:
                answer = await self._client.rpc(address).actor_execute(**message)
            else:
                answer = await self._client.scheduler.proxy(worker=address, msg={"op": "actor_execute", **message})
        except (OSError, KeyError, ValueError) as error:  # KeyError: the worker has forgotten the actor
            return self._lost(error)
        if answer["status"] != "OK":
            raise answer["exception"]
        return answer["result"]

    async def _reaches(self, address):
        try:
            await asyncio.wait_for(self._client.rpc(address).identity(), timeout=REACH)
            return True
        except (OSError, TimeoutError):
            return False

    def _lost(self, error):
        self._check_client(error)

    def _check_client(self, error=None):
        if self._client.status != "running":
            raise ClusterError(
                f"the client of the cluster is {self._client.status}: connect again and pass the data anew; a fit with "
                "checkpoint= goes on with resume=True"
            ) from error

    def _workers(self):
        """The addresses of the workers; ClusterError where the scheduler does not answer."""
        self._check_client()
        try:
            return set(self._client.sync(self._client.scheduler.identity)["workers"])
        except OSError as error:
            raise ClusterError(f"the scheduler of the cluster does not answer: {error}") from error

    # ------------------------------------------------------------------------------------------------------- to hold

    def _replace(self, gone):
        """Hold the blocks of lost workers elsewhere."""
        self.lost += len(gone)
        names = {id(held) for held in gone}
        self._held = [held for held in self._held if id(held) not in names]
        self._hold(sorted(number for held in gone for number in held.numbers))

    def _hold(self, numbers):
        """Compute blocks, where dask puts them, and give each worker a holder of its own."""
        from distributed import wait

        missing = list(numbers)
        while missing:
            self._wait_for_workers()
            futures = dict(zip(missing, self._client.compute([self._blocks[i] for i in missing]), strict=True))
            while True:
                try:
                    wait(list(futures.values()), timeout=LOOK)
                    break
                except TimeoutError:
                    self._wait_for_workers()
            where, own = self._client.who_has(list(futures.values())), {}
            for number, future in futures.items():
                if future.status in ("cancelled", "lost"):
                    raise ClusterError(
                        f"block {number} was on a worker that is lost, and cannot be computed again: scattered data "
                        "have no recipe"
                    )
                if future.status == "error":
                    future.result()
                if at := where.get(future.key):
                    own.setdefault(min(at), []).append(number)
            made = [(address, some, self._holder(address, some, futures)) for address, some in own.items()]
            for address, some, future in made:
                actor = self._actor(address, future)
                (facts,) = [None] if actor is None else self._all([(address, future.key, "facts")])
                if facts is None:
                    continue
                held = Held(address, actor, future.key, set(some), set())
                self._held.append(held)
                for number in some:
                    self.facts[number] = facts[number]
                missing = [number for number in missing if number not in held.numbers]

    def _holder(self, address, numbers, futures):
        return self._client.submit(
            Holder, tuple(numbers), None, *(futures[i] for i in numbers), workers=[address], allow_other_workers=False,
            actor=True, pure=False,
        )  # fmt: skip

    def _actor(self, address, future):
        """The actor; None where its worker is lost before."""
        while True:
            try:
                return future.result(timeout=LOOK)
            except TimeoutError:
                if address not in self._workers():
                    future.cancel()
                    return None
            except Exception as error:  # what the scheduler says of an actor differs between versions
                if "lost" not in str(error) and address in self._workers():
                    raise
                return None

    def _wait_for_workers(self):
        since = time.monotonic()
        while not self._workers():
            if time.monotonic() - since > PATIENCE:
                raise ClusterError(
                    f"all workers of the cluster are gone (waited {PATIENCE:g} s): start others and fit again; a fit "
                    "with checkpoint= goes on with resume=True"
                )
            time.sleep(0.1)


def place_of(client, scheduler, jobs, blocks):
    """The Place of blocks, each (X, y or None, weights or None), Delayed or in memory."""
    import dask

    work = [dask.delayed(read, pure=True)(*block) for block in blocks]
    return Here(work, scheduler, jobs) if client is None else Cluster(client, work)
