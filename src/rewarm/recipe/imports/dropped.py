"""What has no field in a recipe, or no effect beside the file's other keys: the reason, and the keys (searched for)."""

SECRET = "a secret has no place in a recipe: rewarm connections add hf"
DROPPED = {
    SECRET: "token$|api_key|secret|webhook|password",
    "pretraining reads text: no chats, prompts, tools, images or sound": (
        "chat|^template|^tool_|^default_sys|thinking|^image_|video_|audio|^processor_|^media_|vision_tower|multi_modal|"
        "_mm_|freeze_language|patches|^train_on_|^mask_|^eot_|max_prompt|^role_|^ignore_pad|bench_"
    ),
    "of another stage than pretraining, of inference or of export; rewarm models exports": (
        "^(rl|[a-z]+po_|pref_|ref_model|vllm|trl|sglang|infer_|export_|gradio_)|kto_|reward|eaft|asft|_dft_|^ebft|^ld_|"
        "^num_labels|^precompute|generat|sample$|temperature|^top_.$|num_beams|sortish|^max_length|max_new_tok|"
        "_penalty|skip_special|kv_cache"
    ),
    "Rewarm has TensorBoard, MLflow and W&B, set up by their own environment, and uploads nothing": (
        "report_to|tensorboard|wandb|mlflow|swanlab|comet|trackio|otel|^project$|^hub_|^push_"
    ),
    "LoRA is plain, and there only where the file asks for it; an adapter is no base model: merge it first": (
        "lora|^peft|adapter|^merge_|use_dora|^oft_|^pissa_|additional_target|^unfrozen|^lisa_"
    ),
    "bitsandbytes quantises a base under an adapter, to int8 or int4 (nf4)": (
        "quanti|load_in_|^bnb_|^gptq|^qat$|onebit|low_cpu_mem|offload_folder"
    ),
    "Rewarm has AdamW (betas 0.9 and 0.95) and SGD, and trains all parameters at one rate": (
        "^optim|adam|galore|apollo|muon|^dion_|torchdistx|^embedding_lr|^lr_groups|^freeze_|llama_pro|module_drop"
    ),
    "schedules are linear, cosine, constant (without a warm-up) and wsd; steps of warm-up go before a ratio": (
        "^lr_|^warmup_|^cosine_|^jagged_"
    ),
    "documents are shuffled by the seed and packed whole; none attends to another, no token is dropped": (
        "packing|pad_to|multipack|flattening|concatenation|excess_|max_packed|min_sample|shuff|^curriculum|^data_seed|"
        "train_sampling|remove_unused|label_names|by_length|length_column|^dataloader|ignore_data"
    ),
    "weights say how often a source is seen in an epoch (0.01: fewer documents)": "max_samples|mix_strategy|interleave",
    "data.held_out is a share of the documents, below 0.5, and there is always some": "^val_",
    "texts are read where the recipe says, as a stream, and tokenized once; exact duplicates go": (
        "dataset|stream|buffer_size|overwrite_cache|cache_dir|preprocess|tokenized_path|data_shared|^total_"
    ),
    "every record holds speed, memory, loss and rate, each logging_steps updates": (
        "^log|disable_tqdm|^include_.*t|plot_loss|^print_|skip_memory|^debug|profile"
    ),
    "held-out text is scored before, during (eval_strategy, eval_steps) and after, in bits per byte": (
        "eval|metric|do_predict|compute_acc|prediction_loss|greater_is"
    ),
    "save_best_checkpoint needs checkpoints and evaluations at the same moments; a run goes through all its epochs": (
        "load_best|early_stop|do_train|max_steps|watchdog"
    ),
    "checkpoints are whole and resumable, by checkpoint_strategy; another program's cannot be resumed": (
        "^save|resume|^restore|overwrite_output|jit_checkpoint|dynamic_checkpoint"
    ),
    "devices are infrastructure.devices; zero_stage shards the states, nothing else is split or offloaded": (
        "^deepspeed|^fsdp|^ddp|^dp_|parallel|local_rank|^master_|world_size|(^|_)ray_|use_ray|_cpu$|_cuda$|device|"
        "per_worker|heads_k|ring_attn|accelerator|offload|max_memory|gpu_mem|skip_move"
    ),
    "micro-batch and accumulation say the batch; batch_size: auto finds the largest that fits": "batch_size",
    "Rewarm's own engine trains: the fastest attention and kernels there are, weights and optimizer in 32 bits": (
        "atten|attn|^flash|sdpa|liger|kernel|compile|_cache|tiled_mlp|tf32|^fp|^.?float|bf16|^llama4|^gemma4|experts|"
        "plugins|cut_cross|chunked|scaling_soft|pose|trainer_cls|_mca|unsloth|(^|_)kt(_|$)|mixture_of|upcast"
    ),
    "gradient checkpointing has one form; disable_gradient_checkpointing turns it off": "checkpointing|reentrant|^gc_",
    "the loss is plain cross-entropy of the next token": "label_smoothing|^neftune|^noisy|^moe_aux",
    "code that comes with a model is never run": "trust_remote",
    "model and tokenizer are taken as they are, of revision main; text never becomes a control token": (
        "^model_|_model_config|_of_model|model_type|rope_|reinit|from_scratch|^is_|tokeniz|tokens$|_tokens_|resiz|embeddings"
    ),
    "the run has one name, and its folder is in the workspace": "run_name|output_dir|^strict$|axolotl_config",
}
