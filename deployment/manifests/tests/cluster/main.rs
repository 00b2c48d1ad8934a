//! Tests on the rendered objects: `make test-manifests`.

mod autoscalers;
mod chart;
mod demand;
mod guide;
mod keda;
mod network;
mod pods;
mod prometheus;
mod promtool;
mod receivers;
mod references;
mod schemas;
mod settings;
mod targets;
mod workloads;
