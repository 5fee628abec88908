"""Dashboards, alerts and traces on a real service that works, scraped by a real Prometheus."""
