"""Threads for calls of a user's function, for which Ctrl-C does not wait; and code that must not see Ctrl-C."""

import concurrent.futures
import contextlib
import ctypes
import signal
import threading

_raise_in = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.py_object)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)


class Threads(concurrent.futures.ThreadPoolExecutor):
    """An executor to be used in a `with`, which KeyboardInterrupt and SystemExit leave at once.

    Calls that have not begun are cancelled. Those under way get a SystemExit where they next run code of Python, so a
    call of f in C, or one that waits, goes on to its end, and nobody waits for it but the end of the program. After any
    other exception the calls under way are waited for.
    """

    def __init__(self, count):
        super().__init__(count, thread_name_prefix="fastgd")
        self._changes, self._under_way, self._stopped = threading.Lock(), set(), False

    def submit(self, function, *arguments):
        return super().submit(self._call, function, arguments)

    def __exit__(self, kind, error, trace):
        try:
            if kind is not None and issubclass(kind, (KeyboardInterrupt, SystemExit)):
                self.stop()
            else:
                self.shutdown(cancel_futures=True)
        except BaseException:
            self.stop()
            raise

    def stop(self):
        """End all calls, as soon as can be, without waiting for any."""
        self.shutdown(wait=False, cancel_futures=True)
        with self._changes:
            self._stopped = True
            for thread in self._under_way:
                _raise_in(thread, SystemExit)

    def _call(self, function, arguments):
        thread = threading.get_ident()
        with self._changes:
            if self._stopped:  # since it was taken from the queue
                raise SystemExit
            self._under_way.add(thread)
        try:
            return function(*arguments)
        finally:
            with self._changes:
                self._under_way.discard(thread)


@contextlib.contextmanager
def ctrl_c_held():
    """Deliver a Ctrl-C at the end of the block, where other libraries would print and lose it."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    held = []
    signal.signal(signal.SIGINT, lambda *arguments: held.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if held:
            handler(*held[0])
