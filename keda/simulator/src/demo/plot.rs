//! Lag, delay and replicas over the same time, one above the other.

use std::{error::Error, path::Path, time::Duration};

use plotters::{
    coord::Shift,
    prelude::{
        ChartBuilder, Color, DrawingArea, DrawingBackend, IntoDrawingArea, IntoFont, LineSeries, PathElement, RGBColor,
        Rectangle, SVGBackend, SeriesLabelPosition, WHITE,
    },
};

use super::{autoscaler::float, report::times, timeline::Timeline};
use crate::scaled_object::ScaledObject;

const SIZE: (u32, u32) = (1000, 960);
const HEADER_HEIGHT: u32 = 60;
const BLUE: RGBColor = RGBColor(31, 98, 168);
const ORANGE: RGBColor = RGBColor(224, 123, 0);
const GREY: RGBColor = RGBColor(140, 140, 140);
/// Behind everything while the load step lasts.
const STEP: RGBColor = RGBColor(245, 238, 220);

/// One quantity over time.
struct Panel {
    name: &'static str,
    lines: Vec<Line>,
}

struct Line {
    name: &'static str,
    color: RGBColor,
    /// Seconds and values.
    points: Vec<(f64, f64)>,
}

/// Saves the plot as SVG.
pub(super) fn save(path: &Path, timeline: &Timeline, object: &ScaledObject, speed: f64) -> Result<(), Box<dyn Error>> {
    // The caller's own types cannot be in the backend's error, so it is told as text.
    draw(path, timeline, object, speed).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn draw(path: &Path, timeline: &Timeline, object: &ScaledObject, speed: f64) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let title = format!("{}: a load step on real consumers (shaded)", object.target);
    let (header, body) = root.titled(&title, ("sans-serif", 22).into_font())?.split_vertically(HEADER_HEIGHT / 2);
    header.titled(&times(object, speed), ("sans-serif", 13).into_font().color(&GREY))?;
    let end = timeline.samples.last().map_or(1.0, |sample| sample.at.as_secs_f64());
    let panels = panels(timeline, object);
    for (area, panel) in body.split_evenly((panels.len(), 1)).iter().zip(&panels) {
        draw_panel(area, panel, end, timeline.step).map_err(|error| error.to_string())?;
    }
    root.present()?;
    Ok(())
}

fn panels(timeline: &Timeline, object: &ScaledObject) -> [Panel; 3] {
    let samples = |value: fn(&super::Sample) -> f64| -> Vec<(f64, f64)> {
        timeline.samples.iter().map(|sample| (sample.at.as_secs_f64(), value(sample))).collect()
    };
    let threshold = float(object.kafka.lag_threshold);
    let target = samples(|sample| sample.replicas.into()).into_iter().map(|(at, replicas)| (at, replicas * threshold));
    let desired = timeline.looks.iter().map(|(at, look)| (at.as_secs_f64(), f64::from(look.desired)));
    [
        Panel {
            name: "lag of the group, records",
            lines: vec![
                Line { name: "lagThreshold × replicas", color: GREY, points: target.collect() },
                Line { name: "lag", color: BLUE, points: samples(|sample| float(sample.lag)) },
            ],
        },
        Panel {
            name: "delay, s",
            lines: vec![Line {
                name: "kafka_consumer_lag_seconds, largest",
                color: BLUE,
                points: samples(|sample| sample.delay),
            }],
        },
        Panel {
            name: "replicas",
            lines: vec![
                Line { name: "desired", color: ORANGE, points: steps(desired) },
                Line {
                    name: "with partitions",
                    color: BLUE,
                    points: steps(samples(|sample| sample.recording.into()).into_iter()),
                },
            ],
        },
    ]
}

/// Values that hold until the next one.
fn steps(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut last = None;
    let pair = |(at, value)| [last.replace(value).map(|before| (at, before)), Some((at, value))];
    points.flat_map(pair).flatten().collect()
}

fn draw_panel<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    panel: &Panel,
    end: f64,
    step: (Duration, Duration),
) -> Result<(), Box<dyn Error>>
where
    B::ErrorType: 'static,
{
    let top = panel.lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value).fold(1.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..end, 0.0..top)?;
    let (from, to) = (step.0.as_secs_f64(), step.1.as_secs_f64());
    chart.draw_series([Rectangle::new([(from, 0.0), (to, top)], STEP.filled())])?;
    chart
        .configure_mesh()
        .x_desc("seconds")
        .y_desc(panel.name)
        .max_light_lines(0)
        .y_label_formatter(&f64::to_string)
        .draw()?;
    for line in &panel.lines {
        let color = line.color;
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), color.stroke_width(2)))?
            .label(line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE)
        .border_style(GREY)
        .draw()?;
    Ok(())
}
