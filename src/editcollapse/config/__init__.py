"""Study files: their specification, and reading it from TOML.

No input is opened here, no model looked up, and nothing is planned: ``study`` does that.
"""
