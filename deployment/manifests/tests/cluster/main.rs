//! Tests on the rendered objects: `make test-manifests`.

mod autoscalers;
mod chart;
mod guide;
mod network;
mod pods;
mod prometheus;
mod references;
mod schemas;
mod settings;
mod workloads;
