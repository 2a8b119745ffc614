"""The SDK: what an agent author imports."""
