"""On a host whose wall clock libfaketime puts ahead: a sleep that works.

With the monotonic clock left alone, which a namespace puts ahead, libfaketime 0.9.10 makes
``clock_nanosleep`` fail.
"""

import threading
import time

time.sleep = lambda seconds: threading.Event().wait(seconds) and None
