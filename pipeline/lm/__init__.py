"""The mathematics of training: model, loss, optimizer, schedule, step. No clock, no file, no orbit."""
