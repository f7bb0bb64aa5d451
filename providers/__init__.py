"""The exits: one small file for each way a message can leave the house.

Strangers to the application: values in, values out; no Flask, no SQL, no settings. Start with `contract.py`.
"""
