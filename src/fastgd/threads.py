"""A thread pool for a user's function that Ctrl-C ends at once, and blocks of code that Ctrl-C must not interrupt."""

import concurrent.futures
import contextlib
import ctypes
import signal
import threading

_raise_in = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.py_object)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)


class Threads(concurrent.futures.ThreadPoolExecutor):
    """A ThreadPoolExecutor whose `with` block does not wait for its calls on KeyboardInterrupt and SystemExit.

    Calls that have not begun are cancelled. In a running call a SystemExit is raised as soon as it executes Python
    code; a call that is in C, or waits, runs to its end in the background, and only the exit of the interpreter waits
    for it. After any other exception the block waits for running calls.
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
        """Cancel or interrupt all calls, without waiting for any."""
        self.shutdown(wait=False, cancel_futures=True)
        with self._changes:
            self._stopped = True
            for thread in self._under_way:
                _raise_in(thread, SystemExit)

    def _call(self, function, arguments):
        """Run a call in a thread of the pool, and list the thread as running meanwhile, for `stop`."""
        thread = threading.get_ident()
        with self._changes:
            if self._stopped:  # after this call was taken from the queue
                raise SystemExit
            self._under_way.add(thread)
        try:
            return function(*arguments)
        finally:
            with self._changes:
                self._under_way.discard(thread)


@contextlib.contextmanager
def ctrl_c_held():
    """Defer Ctrl-C to the end of the block: for calls of libraries that print a KeyboardInterrupt and continue."""
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
