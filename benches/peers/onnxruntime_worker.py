"""The side of onnxruntime in a comparison, on a dense encoder that export_t5_encoder.py has exported: `load` takes the file
as `folder`; `encode` alone is there, and saves no routes.
"""

import time

import numpy as np
import onnxruntime
from worker_protocol import clock, serve, threads

state = {}


def load(folder, dtype):
    assert dtype == "float32", dtype
    start = time.perf_counter()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads()
    state["session"] = onnxruntime.InferenceSession(folder, options, providers=["CPUExecutionProvider"])
    return {"version": onnxruntime.__version__, "threads": threads(), "seconds": time.perf_counter() - start}


def encode(ids, save=None):
    ids = np.array(ids, dtype=np.int64)
    read = clock()
    (states,) = state["session"].run(None, {"input_ids": ids})
    times = read()
    if save is not None:
        states.astype(np.float32).tofile(save)
    return times


serve({"load": load, "encode": encode})
