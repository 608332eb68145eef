"""The side of CTranslate2 in a comparison, on the dense models that dense_t5_forms.py makes: `load` takes the folder that
holds both, and `dtype` float32 or int8; `encode` saves no routes.
"""

import time

import ctranslate2
import numpy as np
from worker_protocol import clock, serve, threads

state = {}


def load(folder, dtype):
    start = time.perf_counter()
    kind = {"compute_type": dtype, "intra_threads": threads(), "inter_threads": 1}
    state["encoder"] = ctranslate2.Encoder(f"{folder}/ctranslate2_encoder", **kind)
    state["translator"] = ctranslate2.Translator(f"{folder}/ctranslate2", **kind)
    return {
        "version": ctranslate2.__version__,
        "threads": threads(),
        "compute": state["translator"].compute_type,
        "seconds": time.perf_counter() - start,
    }


def encode(ids, save=None):
    rows = np.array(ids, dtype=np.int32)
    ids = ctranslate2.StorageView.from_array(rows)
    lengths = ctranslate2.StorageView.from_array(np.full(len(rows), rows.shape[1], dtype=np.int32))
    read = clock()
    states = state["encoder"].forward_batch(ids, lengths).last_hidden_state
    times = read()
    if save is not None:
        np.array(states, dtype=np.float32).tofile(save)
    return times


def generate(ids, new_tokens):
    rows = [[str(token) for token in row] for row in ids]
    read = clock()
    results = state["translator"].translate_batch(
        rows, beam_size=1, min_decoding_length=new_tokens, max_decoding_length=new_tokens
    )
    times = read()
    return {**times, "ids": [[int(token) for token in result.hypotheses[0]] for result in results]}


serve({"load": load, "encode": encode, "generate": generate})
