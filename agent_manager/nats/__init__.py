"""The embedded nats-server and the credentials minted for its clients."""
