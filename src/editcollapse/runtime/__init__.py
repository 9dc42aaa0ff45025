"""The machine: devices, memory, number types, retries, progress, settings.

Nothing here knows an edit or a study, and nothing enters a key or an id.
"""
