//! Replays a load step against real services and the autoscaling that is shipped.
//!
//! The file is read as KEDA reads it, lag is counted as KEDA counts it, and replicas follow as the HPA's controller
//! decides. Not replayed: the time that a pod takes to be scheduled and pulled, and the age of metrics on their way.

pub mod manifest;
pub mod workload;

pub mod horizontal;
pub mod kafka_scaler;
pub mod scaled_object;
pub mod shipped;

pub mod demo;
