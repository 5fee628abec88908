"""timbre as a Ray Serve application: wiring, replicas, HTTP ingress and settings."""
