"""What a study file may say, and how it is read from TOML.

No input is opened here, no model looked up, and nothing is planned: ``study`` does that.
"""
