"""A GGUF file turned into a Hugging Face folder: for models that are at hand in that form only.

The weights are de-quantised: what was rounded away when the file was made does not come back. transformers
still calls the result quantised and refuses to save it, until every mark of that is gone.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rewarm.core.errors import ModelError
from rewarm.core.storage import staged_folder
from rewarm.models.causal import quiet_transformers
from rewarm.models.folder import share
from rewarm.models.packing import cause

MAGIC = b"GGUF"


def from_gguf(gguf_file: Path, target_folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Save the model and tokenizer in ``gguf_file`` as ``target_folder``, all at once.

    Raises:
        ModelError: the file is no GGUF file, or one of a family that transformers does not read.
        FileExistsError: ``target_folder`` is there already.
    """
    with gguf_file.open("rb") as file:
        if file.read(4) != MAGIC:
            raise ModelError("is no GGUF file", where=gguf_file, remedy="fetch the file again")
    source = {"pretrained_model_name_or_path": gguf_file.parent, "gguf_file": gguf_file.name}
    silence = contextlib.redirect_stderr(io.StringIO())  # a progress bar that no setting turns off
    with quiet_transformers(), silence, staged_folder(target_folder) as folder:
        try:
            model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(**source)
        except Exception as error:  # whatever a foreign library makes of a foreign file
            raise ModelError(
                f"transformers cannot read it: {cause(error)}",
                where=gguf_file,
                remedy="use the model's safetensors version",
            ) from error
        model.hf_quantizer, model.is_quantized, model.quantization_method = None, False, None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.config.architectures = [type(model).__name__]
        model.to(dtype).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        share(folder)
