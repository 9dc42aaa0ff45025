"""Run part of a model: hooks, keys, prefix KV cache, packed rows.

Everything that makes a forward of many independent edits short. What is computed with it (v*,
perplexity, C) is elsewhere.
"""
