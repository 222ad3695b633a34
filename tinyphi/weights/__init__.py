"""Bytes to tensors: files of weights, fetched, read, checked, named and put into a model.

Read in this order: `storage` (a tensor in a file), `directory` (safetensors), `gguf`, `names` (what the parts
of a model are called elsewhere), `load` and `save`; `catalog` and `fetch` find the files.
"""
