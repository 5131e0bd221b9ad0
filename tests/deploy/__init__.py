"""The files that run the service: checked by the tools that read them, and against what a relay really does."""
