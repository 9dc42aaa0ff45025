"""Editors beyond rank one: the joint family of one normal equation, and fine-tuning.

The rows of ``catalog.editors`` say what each one is; ``rome`` has the rank-one methods.
"""
