"""What an audit would cost, from the shape of a model: passes, memory, disk and time. No weights are opened."""
