"""In-app notifications: delivered by being written down."""
