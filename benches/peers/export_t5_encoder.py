"""Exports the encoder of a Switch Transformers checkpoint without sparse layers, which is T5's, to ONNX.

    python export_t5_encoder.py CHECKPOINT_FOLDER FILE.onnx

Takes `input_ids` int64 [rows, tokens], any number of both; gives `last_hidden_state` float32 [rows, tokens, d_model].
Everything is in one file, below the 2 GB that the format takes.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import T5Config, T5EncoderModel

folder, target = Path(sys.argv[1]), sys.argv[2]
config = json.loads((folder / "config.json").read_text())
kept = ["vocab_size", "d_model", "d_kv", "d_ff", "num_heads", "num_layers"]
kept += ["relative_attention_num_buckets", "relative_attention_max_distance", "layer_norm_epsilon"]
t5 = T5Config(**{name: config[name] for name in kept if name in config}, feed_forward_proj="relu", use_cache=False)
model = T5EncoderModel(t5).eval()


def t5_name(name):
    # Both call it a sub-layer; T5 names what is in it by its activation.
    return name.replace(".mlp.", ".DenseReluDense.")


weights = {t5_name(name): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
missing = [name for name in model.state_dict() if name not in weights and name != "encoder.embed_tokens.weight"]
assert not missing, missing
model.load_state_dict(weights, strict=False)


class Encoder(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, input_ids):
        return self.inner(input_ids=input_ids).last_hidden_state


with torch.inference_mode():
    torch.onnx.export(
        Encoder(model).eval(),
        (torch.arange(3, 67).reshape(2, 32),),
        target,
        input_names=["input_ids"],
        output_names=["last_hidden_state"],
        dynamic_shapes={
            "input_ids": {0: torch.export.Dim("rows", min=1, max=64), 1: torch.export.Dim("tokens", min=2, max=2048)}
        },
        opset_version=20,
        dynamo=True,
        external_data=False,
    )
