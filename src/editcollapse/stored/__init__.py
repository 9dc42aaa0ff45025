"""Updates that a results folder holds: read back, put into weights, taken home as files.

What is here knows neither the database nor how an update is found: ``study.known_updates`` says
what the database tells of one. Nothing here makes an update.
"""
