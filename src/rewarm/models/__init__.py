"""Hugging Face models in and out: packed attention, chunked loss, LoRA, export. Imports no torch by itself."""
