"""What watches the metrics: a dashboard for Grafana, and rules for Prometheus or vmalert."""
