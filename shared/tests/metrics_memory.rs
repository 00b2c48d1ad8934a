//! Metrics take no more memory the longer they are told things, whether or not anybody looks. Alone in its process, whose
//! memory is what is measured.

use std::time::Duration;

use http::{Method, StatusCode};
use shared::metrics::{HttpMetrics, Registry};
use shared::shutdown::Shutdown;

/// A day's worth of 100 requests a second.
const REQUESTS: u32 = 8_640_000;
/// An hour's scrapes, one each 15 seconds.
const SCRAPES: u32 = 240;
/// What may come and go between two looks.
const SLACK: usize = 8 << 20;

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number of pages") * 4096
}

#[tokio::test(start_paused = true)]
async fn memory_is_flat_over_a_days_requests_without_a_scrape_and_over_an_hours_scrapes() {
    let (name, bounds) = HttpMetrics::buckets("");
    let registry = Registry::new(&[(&name, bounds)]);
    let metrics = HttpMetrics::register(&registry, "", &[("POST", "/buy", 202)]);
    let buy = |requests: u32| {
        (0..requests)
            .for_each(|_| metrics.observe(&Method::POST, "/buy", StatusCode::ACCEPTED, Duration::from_millis(1)));
    };
    let upkeep = tokio::spawn(registry.clone().keep_up(Shutdown::new()));
    buy(REQUESTS / 100);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = resident_bytes();
    for _ in 0..99 {
        buy(REQUESTS / 100);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let unseen = resident_bytes();
    assert!(unseen < before + SLACK, "{before} bytes became {unseen} without a scrape");
    upkeep.abort();
    for _ in 0..SCRAPES {
        buy(1_500);
        assert!(registry.render().contains("http_request_duration_seconds_count"));
    }
    let scraped = resident_bytes();
    assert!(scraped < before + SLACK, "{before} bytes became {scraped} under scrapes");
    let count =
        format!(r#"http_request_total{{method="POST",path="/buy",status="202"}} {}"#, REQUESTS + SCRAPES * 1_500);
    assert!(registry.render().lines().any(|line| line == count), "each is counted");
}
