"""Hugging Face models in and out: packed attention, chunked loss, LoRA, export. Importing the package loads no torch."""
