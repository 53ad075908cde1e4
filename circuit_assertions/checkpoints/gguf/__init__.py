"""GGUF files, the format of llama.cpp, as checkpoints.

`files` knows them by their names, `header` reads what they contain without the weights, `settings` and `rotation` make
a configuration of transformers from that, `reading` de-quantizes the weights in memory, and `tokenizer` makes the
tokenizer.
"""
