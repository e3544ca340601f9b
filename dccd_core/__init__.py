"""What both programs need: models, configuration, exchanges, the store. No Dagster, no sockets."""
