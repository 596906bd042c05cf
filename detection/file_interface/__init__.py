"""How a model file that is not ours is fed and read: pictures to its input, its outputs to boxes and scores."""
