"""Webhooks: signatures, and the provider that posts them through the safe client."""
