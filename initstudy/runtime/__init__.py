"""The process: signals, clock and memory."""
