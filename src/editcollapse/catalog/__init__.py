"""The rows that users add to: architectures, methods, presets; loads no torch.

Plain data with sources. The code that reads them is in ``models``, ``rome`` and ``study``.
"""
