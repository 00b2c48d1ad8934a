//! web-server's memory over an hour's worth of requests at 1,000 a second, sent as fast as they are answered.

use crate::{
    Section,
    row::{Row, Target, Unit},
    spread::mebibytes,
    world::{World, peak_rss_bytes},
    wrk::{self, WrkPlan},
};
use stack::Result;

const REQUESTS: u64 = 3_600_000;
const SLICE_SECONDS: u64 = 10;
/// What "flat" means: an allocator's own drift is less.
const GROWTH_MAX: f64 = 1.1;

/// RSS after the first slice of the load, at the end, and at most.
pub async fn measure(world: &mut World) -> Result<Vec<Row>> {
    let web = world.web_server("bench-memory", None).await?;
    let requests = world.size.count(REQUESTS);
    let mut answered = 0;
    let mut rss = Vec::new();
    while answered < requests {
        let time = world.size.time(SLICE_SECONDS);
        let plan = WrkPlan::new(web.address(), 64, time);
        answered += wrk::run(world.folder(), &plan).await?.all_good()?.requests;
        rss.push(mebibytes(web.rss_bytes()));
    }
    let (first, last) = (rss.first().copied().unwrap_or(0.0), rss.last().copied().unwrap_or(0.0));
    let row = |what: &str, value| {
        let what = format!("web-server, {answered} requests at 64 connections: {what}");
        Row::new(Section::Memory, what, Unit::Mebibytes, &[value])
    };
    Ok(vec![
        row("RSS at the end", last)
            .beside("after the first slice", &[first])
            .target(Target::RatioAtMost(GROWTH_MAX))
            .note("flat"),
        row("largest RSS", mebibytes(peak_rss_bytes(web.process_id()))).target(Target::AtMost(40.0)),
    ])
}
