//! `scale-demo`: a load step against real consumers, scaled by the shipped ScaledObject.

mod autoscaler;
mod plot;
mod report;
mod timeline;
mod world;

use std::{
    error::Error,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use stack::Load;
use tokio::time::{Instant, sleep_until};

use self::{
    autoscaler::Autoscaler,
    report::Outcome,
    timeline::{Sample, Timeline},
    world::{Fleet, World},
};
use crate::{manifest::ManifestError, scaled_object::ScaledObject, workload::cpu_request_millis};

/// Purchases a second: always a fifth of what one consumer records, and in the step as many more as make what three do.
const QUIET_PER_SECOND: f64 = 100.0;
const STEP_PER_SECOND: f64 = 1400.0;

/// How long, before times are shortened: quiet before the step, the step, and what the end may take beside its windows.
const QUIET: Duration = Duration::from_mins(1);
const STEP: Duration = Duration::from_mins(6);
const PATIENCE: Duration = Duration::from_mins(5);

/// How often the plot gets a point.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);

/// What to replay.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// How many times shorter every window, period and interval is than in the file
    #[arg(long, default_value_t = 4.0, value_parser = speed)]
    speed: f64,
    /// The ScaledObject [default: keda/customer-management-api.yaml]
    #[arg(long)]
    scaled_object: Option<PathBuf>,
    /// The Deployment that it scales [default: deployment/customer-management-api/deployment.yaml]
    #[arg(long)]
    deployment: Option<PathBuf>,
    /// Where to save the plot too; it is always in target/stack/scale-demo.svg
    #[arg(long)]
    plot: Option<PathBuf>,
}

/// Replays the step and prints a table of it; false when something at the end is not as it should be.
///
/// # Errors
/// When a file is not as it must be, or the stack cannot be started or asked.
pub async fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    let (object, request_millis) = options.read()?;
    let world = World::start(&object.kafka).await?;
    let mut fleet = world.fleet(&object.kafka, object.behavior.min, options.speed).await?;
    report::begin(&object, options.speed);
    let autoscaler = Autoscaler::new(object.clone(), request_millis, options.speed);
    let replay = Replay { world: &world, object: &object, speed: options.speed, started: Instant::now() };
    let (timeline, loads) = replay.run(autoscaler, &mut fleet).await?;
    let (mut accepted, mut refused) = (0, 0);
    for load in loads {
        let load = load.stop().await;
        accepted += u64::try_from(load.latencies.count())?;
        refused += load.given_up;
    }
    let recorded = world.recorded(&fleet, accepted).await?;
    let outcome = Outcome { accepted, refused, recorded, failed_ends: fleet.failed_ends().await? };
    for path in options.plots()? {
        plot::save(&path, &timeline, &object, options.speed)?;
        report::saved(&path);
    }
    let is_good = report::end(&timeline, &outcome, &object);
    if !is_good {
        world.keep();
    }
    Ok(is_good)
}

impl Options {
    fn read(&self) -> Result<(ScaledObject, u32), ManifestError> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let path = |given: &Option<PathBuf>, own: &str| given.clone().unwrap_or_else(|| root.join(own));
        let object = ScaledObject::read(&path(&self.scaled_object, "keda/customer-management-api.yaml"))?;
        let deployment = path(&self.deployment, "deployment/customer-management-api/deployment.yaml");
        let request_millis = cpu_request_millis(&deployment, &object.target)?;
        Ok((object.faster(self.speed), request_millis))
    }

    fn plots(&self) -> stack::Result<Vec<PathBuf>> {
        let own = stack::folder::cache_folder()?.join("scale-demo.svg");
        Ok([Some(own), self.plot.clone()].into_iter().flatten().collect())
    }
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse::<f64>().ok().filter(|speed| (1.0..=20.0).contains(speed));
    speed
        .ok_or_else(|| "a number from 1 to 20: beyond, the consumers themselves are slower than the windows".to_owned())
}

/// One run of the step.
struct Replay<'a> {
    world: &'a World,
    object: &'a ScaledObject,
    speed: f64,
    started: Instant,
}

impl Replay<'_> {
    async fn run(&self, mut autoscaler: Autoscaler, fleet: &mut Fleet) -> stack::Result<(Timeline, Vec<Load>)> {
        let begin = QUIET.div_f64(self.speed);
        let mut timeline = Timeline { step: (begin, begin + STEP.div_f64(self.speed)), ..Timeline::default() };
        let mut loads = vec![self.world.load(QUIET_PER_SECOND, None)];
        for tick in 0.. {
            sleep_until(self.started + SAMPLE_INTERVAL * tick).await;
            let now = self.started.elapsed();
            if loads.len() == 1 && now >= timeline.step.0 {
                loads.push(self.world.load(STEP_PER_SECOND, Some(STEP.div_f64(self.speed))));
            }
            let look = autoscaler.step(now, self.world, fleet).await;
            let sample = self.sample(now, fleet).await?;
            timeline.samples.push(sample);
            if let Some(look) = look {
                fleet.scale_to(look.desired, self.world)?;
                timeline.looks.push((now, look));
                report::look(&sample, &look);
            }
            if self.is_over(now, fleet, &timeline) {
                break;
            }
        }
        Ok((timeline, loads))
    }

    async fn sample(&self, at: Duration, fleet: &Fleet) -> stack::Result<Sample> {
        let kafka = &self.object.kafka;
        let partitions = self.world.kafka.offsets(&kafka.group, &kafka.topic).await?;
        let (recording, delay) = fleet.look().await;
        Ok(Sample { at, lag: kafka.lag(&partitions), delay, replicas: fleet.count(), recording })
    }

    /// Back at the minimum, and one down window without a change later; or never, and it took too long.
    fn is_over(&self, now: Duration, fleet: &Fleet, timeline: &Timeline) -> bool {
        let behavior = &self.object.behavior;
        let last_change = timeline.changes().last().map_or(Duration::ZERO, |change| change.at);
        let is_quiet = now >= timeline.step.1.max(last_change) + behavior.down.window;
        let steps = u32::try_from(behavior.max - behavior.min).unwrap_or(0);
        let longest = behavior.down.policies.iter().map(|policy| policy.period).max().unwrap_or_default();
        let deadline = timeline.step.1 + behavior.down.window * 2 + longest * steps + PATIENCE.div_f64(self.speed);
        (is_quiet && fleet.count() == behavior.min) || now >= deadline
    }
}
