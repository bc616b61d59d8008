"""The TrafficMetrics API (`metrics.smi-spec.io/v1alpha1`, S30) as an aggregated API of the cluster."""
