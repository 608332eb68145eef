"""What the peers' workers in Python share: one line of JSON in, one out. See ours_worker.mjs for the operations."""

import json
import os
import sys
import time


def threads():
    """How many this side may use: OMP_NUM_THREADS, else one for each core."""
    return int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))


def clock():
    """Reads the milliseconds that passed since it was made, and those of processor time."""
    start, used = time.perf_counter(), time.process_time()
    return lambda: {"ms": (time.perf_counter() - start) * 1000, "cpu": (time.process_time() - used) * 1000}


def serve(operations):
    """Answers until the input ends. What libraries print goes to stderr."""
    replies, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = operations[request.pop("op")](**request)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
