//! What scales a workload, read from any of the files that are shipped: an HPA or a ScaledObject, and asked as the HPA's
//! controller asks it.

#[cfg(test)]
mod tests;

use std::path::Path;

use crate::{
    horizontal::{Behavior, Metric},
    manifest::{Field, Manifest, ManifestError},
    scaled_object::{read_behavior, read_scaled_behavior},
};

/// What is looked at, and as it should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Signal {
    /// CPU in percent of what the pods request.
    Cpu(i32),
    /// Memory in percent of what the pods request.
    Memory(i32),
    /// What comes in or waits, for one replica.
    Demand(f64),
}

/// The owner of a workload's replicas.
#[derive(Debug, Clone)]
pub struct Shipped {
    /// Limits and pace.
    pub behavior: Behavior,
    /// What it looks at; whichever asks for most counts.
    pub signals: Vec<Signal>,
}

/// What pods do, in one moment.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Requests, records or whatever its target counts, of all replicas together.
    pub demand: f64,
    /// CPU of all replicas together, in percent of what one requests.
    pub cpu_percent: i32,
    /// Memory of each replica, in percent of what it requests.
    pub memory_percent: i32,
}

impl Shipped {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is not as it must be; the error names file and field.
    pub fn read(file: &Path) -> Result<Self, ManifestError> {
        let manifest = Manifest::read(file)?;
        let spec = manifest.root().at("spec");
        if manifest.root().at("kind").word(&[("ScaledObject", true), ("HorizontalPodAutoscaler", false)])? {
            return Ok(Self { behavior: read_scaled_behavior(&spec)?, signals: read_triggers(&spec)? });
        }
        let limits = (spec.at("minReplicas"), spec.at("maxReplicas"));
        let signals = spec.at("metrics").items()?.iter().map(read_metric).collect::<Result<_, _>>()?;
        Ok(Self { behavior: read_behavior(limits, &spec.at("behavior"))?, signals })
    }

    /// What the controller is told of this load by so many replicas.
    pub fn metrics(&self, load: Load, replicas: i32) -> Vec<Option<Metric>> {
        let metric = |signal: &Signal| match *signal {
            Signal::Cpu(target) => Metric::Utilization { percent: load.cpu_percent / replicas, target },
            Signal::Memory(target) => Metric::Utilization { percent: load.memory_percent, target },
            Signal::Demand(target) => Metric::Average { total: load.demand, target },
        };
        self.signals.iter().map(metric).map(Some).collect()
    }
}

fn read_metric(metric: &Field<'_>) -> Result<Signal, ManifestError> {
    if metric.at("type").word(&[("Pods", true), ("Resource", false)])? {
        return demand(&metric.at("pods.target.averageValue"));
    }
    let signal =
        metric.at("resource.name").word(&[("cpu", Signal::Cpu as fn(i32) -> _), ("memory", Signal::Memory)])?;
    Ok(signal(metric.at("resource.target.averageUtilization").whole()?))
}

/// With a formula, its target is the one of all triggers but those of resources.
fn read_triggers(spec: &Field<'_>) -> Result<Vec<Signal>, ManifestError> {
    let formula = spec.at("advanced.scalingModifiers.target");
    let mut signals = if formula.is_absent() { Vec::new() } else { vec![demand(&formula)?] };
    for trigger in spec.at("triggers").items()? {
        let value = |name: &str| trigger.at("metadata").at(name);
        match trigger.at("type").word(&[("kafka", 0), ("prometheus", 1), ("cpu", 2), ("memory", 3)])? {
            2 => signals.push(Signal::Cpu(value("value").digits()?)),
            3 => signals.push(Signal::Memory(value("value").digits()?)),
            _ if !formula.is_absent() => {}
            0 => signals.push(demand(&value("lagThreshold"))?),
            _ => signals.push(demand(&value("threshold"))?),
        }
    }
    Ok(signals)
}

fn demand(target: &Field<'_>) -> Result<Signal, ManifestError> {
    Ok(Signal::Demand(f64::from(target.digits::<u32>()?)))
}
