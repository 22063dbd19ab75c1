"""Checkpoint folders: config.json, model.safetensors, training.json and the model card generated from them."""
