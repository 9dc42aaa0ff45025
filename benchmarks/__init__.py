"""The published procedure beside ours, measured in turn. Not part of the wheel."""
