"""What is measured, and how to measure it again: `python -m bench.<name> [--short] [--shape embedded|production]`.

Figures, and what they mean, are in docs/performance.md. Each command starts the service as a user would, on free ports
and in folders of its own, prints its lines and leaves nothing behind. They need what the tests need.
"""
