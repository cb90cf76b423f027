"""Open base models to begin with: hub id, parameters, family. Any other hub id, folder or version can be typed."""

BASE_MODELS = {
    "HuggingFaceTB/SmolLM2-135M": "135M · SmolLM2",
    "HuggingFaceTB/SmolLM2-360M": "360M · SmolLM2",
    "HuggingFaceTB/SmolLM2-1.7B": "1.7B · SmolLM2",
    "meta-llama/Llama-3.2-1B": "1.2B · Llama 3.2",
    "meta-llama/Llama-3.2-3B": "3.2B · Llama 3.2",
    "meta-llama/Llama-3.1-8B": "8B · Llama 3.1",
    "Qwen/Qwen3-0.6B-Base": "0.6B · Qwen 3",
    "Qwen/Qwen3-1.7B-Base": "1.7B · Qwen 3",
    "Qwen/Qwen3-4B-Base": "4B · Qwen 3",
    "Qwen/Qwen3-8B-Base": "8B · Qwen 3",
    "Qwen/Qwen2.5-0.5B": "0.5B · Qwen 2.5",
    "Qwen/Qwen2.5-1.5B": "1.5B · Qwen 2.5",
    "google/gemma-3-1b-pt": "1B · Gemma 3",
    "google/gemma-3-4b-pt": "4B · Gemma 3",
    "mistralai/Mistral-7B-v0.3": "7B · Mistral",
    "allenai/OLMo-2-0425-1B": "1B · OLMo 2",
}
