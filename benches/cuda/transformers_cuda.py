"""The same work in PyTorch `transformers` on the same card: `folder mode runs` in, one line of JSON out."""

import json
import statistics
import sys
import time

import torch
from transformers import SwitchTransformersForConditionalGeneration

folder, mode, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
model = SwitchTransformersForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16).cuda().eval()
encoder = model.get_encoder()
if mode == "compiled":
    encoder = torch.compile(encoder)
    model.forward = torch.compile(model.forward, dynamic=True)


def timed(work):
    work()
    times = []
    for _ in range(runs):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


ids = torch.randint(2, 32000, (32, 512), device="cuda")
short = ids[:1, :64]
with torch.inference_mode():
    encode_ms = timed(lambda: encoder(input_ids=ids))
    few = timed(lambda: model.generate(short, max_new_tokens=1, min_new_tokens=1))
    many = timed(lambda: model.generate(short, max_new_tokens=65, min_new_tokens=65))
print(json.dumps({"encode_ms": encode_ms, "step_ms": (many - few) / 64}))
