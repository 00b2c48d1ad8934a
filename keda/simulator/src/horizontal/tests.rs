use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// The rules of the consumer: up after 60 s by two pods a minute, down after 300 s by one pod a minute.
fn consumer() -> Behavior {
    let rules = |window, value| ScalingRules {
        window: Duration::from_secs(window),
        select: SelectPolicy::Max,
        policies: vec![pods(value, 60)],
    };
    Behavior { min: 1, max: 5, up: rules(60, 2), down: rules(300, 1) }
}

/// No windows and no pace: only what the metrics say, from 1 to 100.
fn unlimited() -> Behavior {
    let rules = || ScalingRules { window: Duration::ZERO, select: SelectPolicy::Max, policies: vec![pods(1000, 15)] };
    Behavior { min: 1, max: 100, up: rules(), down: rules() }
}

fn pods(value: i32, seconds: u64) -> ScalingPolicy {
    ScalingPolicy { kind: PolicyKind::Pods, value, period: Duration::from_secs(seconds) }
}

fn percent(value: i32, seconds: u64) -> ScalingPolicy {
    ScalingPolicy { kind: PolicyKind::Percent, ..pods(value, seconds) }
}

fn lag(total: f64) -> Metric {
    Metric::Average { total, target: 100.0 }
}

/// Looks every 15 s from the beginning at a lag, and follows each decision: the replicas after each look.
fn follow(behavior: Behavior, first: i32, lags: &[f64]) -> Vec<i32> {
    let mut controller = Horizontal::new(behavior);
    let mut replicas = first;
    let looks = (0..).map(|look| SYNC_PERIOD * look).zip(lags);
    looks
        .map(|(now, total)| {
            replicas = controller.sync(now, replicas, &[Some(lag(*total))]).desired;
            replicas
        })
        .collect()
}

/// What the metrics ask for, without limits.
fn asks(current: i32, metrics: &[Option<Metric>]) -> Option<i32> {
    Horizontal::new(unlimited()).sync(SECOND, current, metrics).wanted
}

#[test]
fn a_lag_of_1050_asks_for_11_replicas_before_the_maximum() {
    assert_eq!(asks(1, &[Some(lag(1050.0))]), Some(11));
    assert_eq!(asks(1, &[Some(lag(1001.0))]), Some(11), "rounded up");
    assert_eq!(asks(1, &[Some(lag(1000.0))]), Some(10));
    let mut controller = Horizontal::new(Behavior { max: 5, ..unlimited() });
    assert_eq!(controller.sync(SECOND, 1, &[Some(lag(1050.0))]), Decision { wanted: Some(11), desired: 5 });
}

#[test]
fn within_ten_percent_of_the_target_nothing_moves() {
    let asked = [399.0, 401.0, 450.0, 500.0, 501.0, 550.0, 551.0].map(|total| asks(5, &[Some(lag(total))]).unwrap());
    assert_eq!(asked, [4, 5, 5, 5, 5, 5, 6]);
    assert_eq!(asks(10, &[Some(lag(1050.0))]), Some(10), "11 only from fewer than 10");
    let around = [480.0, 520.0, 545.0, 455.0].repeat(50);
    assert!(follow(unlimited(), 5, &around).iter().all(|replicas| *replicas == 5), "no flapping");
}

#[test]
fn without_lag_one_replica_is_left() {
    assert_eq!(asks(5, &[Some(lag(0.0))]), Some(0));
    assert_eq!(follow(unlimited(), 5, &[0.0]), [1]);
}

#[test]
fn cpu_asks_in_proportion_to_the_replicas() {
    let cpu = |percent| [Some(Metric::Utilization { percent, target: 70 })];
    assert_eq!(asks(3, &cpu(140)), Some(6));
    assert_eq!(asks(3, &cpu(75)), Some(3), "within the tolerance");
    assert_eq!(asks(3, &cpu(30)), Some(2));
    assert_eq!(asks(3, &cpu(0)), Some(0));
}

#[test]
fn the_metric_that_asks_for_most_counts() {
    let cpu = Some(Metric::Utilization { percent: 140, target: 70 });
    assert_eq!(asks(2, &[Some(lag(300.0)), cpu]), Some(4));
    assert_eq!(asks(2, &[Some(lag(900.0)), cpu]), Some(9));
}

#[test]
fn a_missing_metric_keeps_replicas_from_falling_and_not_from_growing() {
    assert_eq!(asks(3, &[Some(lag(0.0)), None]), None);
    assert_eq!(asks(3, &[Some(lag(900.0)), None]), Some(9));
    assert_eq!(asks(3, &[None, None]), None);
    let mut controller = Horizontal::new(unlimited());
    assert_eq!(controller.sync(SECOND, 3, &[Some(lag(0.0)), None]).desired, 3);
}

#[test]
fn the_up_window_waits_until_all_its_recommendations_ask_for_more() {
    // The first look remembers the one replica that runs, and so does the last look before the lag: 60 s from there.
    let lags = [0.0, 0.0, 900.0, 900.0, 900.0, 900.0, 900.0];
    assert_eq!(follow(consumer(), 1, &lags), [1, 1, 1, 1, 1, 3, 3]);
    let peak = [0.0, 900.0, 900.0, 0.0, 900.0, 900.0, 900.0, 900.0];
    assert_eq!(follow(consumer(), 1, &peak), [1, 1, 1, 1, 1, 1, 1, 3], "a dip begins the window anew");
}

#[test]
fn the_up_window_takes_the_lowest_recommendation() {
    let lags = [200.0, 200.0, 900.0, 900.0, 900.0, 900.0];
    assert_eq!(follow(consumer(), 2, &lags), [2, 2, 2, 2, 2, 4]);
    assert_eq!(follow(consumer(), 1, &[300.0, 180.0, 300.0, 300.0, 300.0]), [1, 1, 1, 1, 2]);
}

#[test]
fn two_pods_a_minute_up() {
    let replicas = follow(consumer(), 1, &[1000.0; 10]);
    assert_eq!(replicas, [1, 1, 1, 1, 3, 3, 3, 3, 5, 5]);
}

#[test]
fn the_down_window_keeps_the_highest_recommendation_and_then_one_pod_a_minute_goes() {
    let lags = [vec![500.0], vec![0.0; 40]].concat();
    let replicas = follow(consumer(), 5, &lags);
    let changes: Vec<(usize, i32)> = (1..)
        .zip(replicas.windows(2))
        .filter(|(_, pair)| pair[0] != pair[1])
        .map(|(look, pair)| (look, pair[1]))
        .collect();
    // 300 s are 20 looks, 60 s are 4.
    assert_eq!(changes, [(20, 4), (24, 3), (28, 2), (32, 1)]);
}

#[test]
fn a_lag_that_comes_back_within_the_down_window_changes_nothing() {
    let lags = [[500.0, 500.0].as_slice(), &[0.0; 18]].concat().repeat(10);
    assert!(follow(consumer(), 5, &lags).iter().all(|replicas| *replicas == 5), "no flapping");
}

#[test]
fn the_widest_policy_counts_or_the_narrowest_or_none() {
    let up = |select| ScalingRules { window: Duration::ZERO, select, policies: vec![pods(4, 15), percent(100, 15)] };
    let step = |select, from| follow(Behavior { up: up(select), ..unlimited() }, from, &[10_000.0])[0];
    assert_eq!([1, 10].map(|from| step(SelectPolicy::Max, from)), [5, 20]);
    assert_eq!([1, 10].map(|from| step(SelectPolicy::Min, from)), [2, 14]);
    assert_eq!(step(SelectPolicy::Disabled, 10), 10);

    let down = |select| ScalingRules { select, policies: vec![pods(1, 60), percent(50, 60)], ..up(select) };
    let step = |select, from| follow(Behavior { down: down(select), ..unlimited() }, from, &[0.0])[0];
    assert_eq!([2, 9].map(|from| step(SelectPolicy::Max, from)), [1, 4], "9 × 0.5 without its fraction");
    assert_eq!([2, 9].map(|from| step(SelectPolicy::Min, from)), [1, 8]);
    assert_eq!(step(SelectPolicy::Disabled, 9), 9);
}

#[test]
fn a_policy_counts_from_the_replicas_at_its_periods_beginning() {
    let up = ScalingRules { window: Duration::ZERO, select: SelectPolicy::Max, policies: vec![percent(100, 60)] };
    // 3 become 6 at once; 12 only when those 3 are a minute old.
    assert_eq!(follow(Behavior { up, ..unlimited() }, 3, &[10_000.0; 6]), [6, 6, 6, 6, 12, 12]);
}

#[test]
fn replicas_outside_of_the_limits_are_brought_back_at_once() {
    assert_eq!(follow(consumer(), 9, &[0.0]), [5]);
    assert_eq!(follow(Behavior { min: 2, ..consumer() }, 1, &[0.0]), [2]);
}
