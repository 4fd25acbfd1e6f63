"""What a pickle can ask for: a call of anything."""


class Call:
    """Pickled as a call of `function`, and a state for what it returns."""

    def __init__(self, function, *args, state=None):
        self.function, self.args, self.state = function, args, state

    def __reduce__(self):
        if self.state is None:
            return self.function, self.args
        return self.function, self.args, self.state
