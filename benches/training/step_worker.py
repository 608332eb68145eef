"""The peer's side of step_speed.mjs: train {folder, rows, source, target, steps} -> {losses, times, peak_bytes}."""

import json
import os
import resource
import sys
import time

import torch
from transformers import SwitchTransformersForConditionalGeneration

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))


def some_ids(rows, tokens, seed, vocab_size):
    """The same ids as statistics.mjs makes."""
    state = seed

    def one():
        nonlocal state
        state = (state * 1_664_525 + 1_013_904_223) & 0xFFFFFFFF
        return 3 + int(state / 2**32 * (vocab_size - 3))

    return torch.tensor([[one() for _ in range(tokens)] for _ in range(rows)])


def train(folder, rows, source, target, steps):
    model = SwitchTransformersForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    # Evaluation mode: no dropout and no jitter, gradients all the same.
    model.eval()
    vocab = model.config.vocab_size
    batch = {"input_ids": some_ids(rows, source, 1, vocab), "labels": some_ids(rows, target, 2, vocab)}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.0)
    losses, times = [], []
    for _ in range(steps):
        start, cpu = time.perf_counter(), time.process_time()
        loss = model(**batch, output_router_logits=True).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        times.append({"ms": (time.perf_counter() - start) * 1e3, "cpu": (time.process_time() - cpu) * 1e3})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"losses": losses, "times": times, "peak_bytes": peak}


for line in sys.stdin:
    request = json.loads(line)
    request.pop("op")
    try:
        print(json.dumps(train(**request)), flush=True)
    except Exception as error:
        print(json.dumps({"error": repr(error)}), flush=True)
