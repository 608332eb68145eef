"""The side of PyTorch `transformers` in a comparison: one line of JSON in, one out. See ours_worker.mjs for the operations.

Here `load` also takes `mode`: "eager", or "compiled" for `torch.compile` of the blocks of both stacks.
"""

import json
import time
from pathlib import Path

import torch
import transformers
from transformers import SwitchTransformersForConditionalGeneration, T5ForConditionalGeneration
from worker_protocol import clock, serve

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
state = {}


def load(folder, dtype, mode="eager"):
    start = time.perf_counter()
    dense = json.loads((Path(folder) / "config.json").read_text())["model_type"] == "t5"
    model, info = (T5ForConditionalGeneration if dense else SwitchTransformersForConditionalGeneration).from_pretrained(
        folder, dtype=getattr(torch, dtype), output_loading_info=True
    )
    model.eval()
    seconds = time.perf_counter() - start
    encoder = model.get_encoder()
    state.update(model=model, encoder=encoder)
    if mode == "compiled":
        # Block by block: blocks of a kind share what is compiled, which otherwise takes many minutes for each case.
        # How many tokens an expert gets always varies: shapes become dynamic where they are seen to be.
        for block in [*encoder.block, *model.get_decoder().block]:
            block.compile()
    return {
        "version": transformers.__version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "seconds": seconds,
        "missing": sorted(info["missing_keys"]),
        "unexpected": sorted(info["unexpected_keys"]),
    }


def save_floats(file, tensor):
    tensor.float().contiguous().numpy().tofile(file)


def encode(ids, save=None, routes=None):
    ids = torch.tensor(ids)
    taken, hooks = [], []
    if routes is not None:
        for block in state["encoder"].block:
            router = getattr(getattr(block.layer[-1], "mlp", None), "router", None)
            if router is not None:
                hooks.append(router.register_forward_hook(lambda _, __, out: taken.append(out[0])))
    read = clock()
    output = state["encoder"](input_ids=ids).last_hidden_state
    times = read()
    for hook in hooks:
        hook.remove()
    if save is not None:
        save_floats(save, output)
    if routes is not None:
        # One-hot with a dropped token's row all zero → the expert's index, -1 where none had room.
        index = [torch.where(one_hot.sum(-1) > 0, one_hot.argmax(-1), -1).to(torch.int32) for one_hot in taken]
        (torch.stack(index) if index else torch.empty(0, dtype=torch.int32)).numpy().tofile(routes)
    return times


def generate(ids, new_tokens):
    ids = torch.tensor(ids)
    read = clock()
    sequences = state["model"].generate(
        input_ids=ids, max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False
    )
    times = read()
    return {**times, "ids": sequences[:, 1:].tolist()}


def forward(ids, decoder_ids, save):
    read = clock()
    output = state["model"](input_ids=torch.tensor(ids), decoder_input_ids=torch.tensor(decoder_ids), use_cache=False)
    times = read()
    save_floats(save, output.logits)
    return times


operations = {"load": load, "encode": encode, "generate": generate, "forward": forward}
with torch.inference_mode():
    serve(operations)
