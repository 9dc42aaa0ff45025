"""Large shapes with random weights on an accelerator, measured beside the published procedure."""
