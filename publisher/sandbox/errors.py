"""What the sandbox itself raises, as opposed to the Graph errors that it plays."""


class SandboxError(Exception):
    """The sandbox can't do what it was asked; the message says what to do next."""
