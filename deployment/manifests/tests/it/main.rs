//! What the files for a cluster ask of metrics, held against a live scrape of our own services. Needs nothing but Rust.

mod autoscaling;
mod compose;
mod containers;
mod dashboards;
mod guides;
mod lag;
mod metrics;
mod runbooks;
mod scrape;
mod selectors;
