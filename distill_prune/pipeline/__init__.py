"""The only place that knows all the rooms: pipeline files, the store, the graph of artifacts and how it is run."""
