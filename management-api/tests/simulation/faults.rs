//! What fails, and when: one after the other, as the seed says.

use std::time::Duration;

use rand::RngExt;
use rand::seq::IteratorRandom;
use tokio::time::{Instant, sleep};

use crate::process::Process;
use crate::world::{Mode, PARTITIONS, State, Weather, World};

/// The longest pause between two faults.
const PAUSE_MAX_MS: u64 = 250;
/// How many processes run at most.
const PROCESSES_MAX: usize = 3;

/// The processes that run, and what is done to them.
pub struct Cluster {
    world: World,
    mode: Mode,
    /// Those that run.
    pub processes: Vec<Process>,
    started: usize,
}

impl Cluster {
    /// With some processes.
    pub fn start(world: &World, mode: Mode) -> Self {
        let mut cluster = Self { world: world.clone(), mode, processes: Vec::new(), started: 0 };
        (1..PROCESSES_MAX).for_each(|_| cluster.start_process());
        cluster
    }

    /// Starts another process.
    pub fn start_process(&mut self) {
        self.started += 1;
        self.processes.push(Process::start(&self.world, self.started));
    }

    /// Lets so many faults happen.
    pub async fn torment(&mut self, faults: usize) {
        for _ in 0..faults {
            let pause = self.world.lock().while_ms(PAUSE_MAX_MS);
            sleep(pause).await;
            if !self.world.lock().database.violations.is_empty() {
                return;
            }
            let choice = self.world.lock().rng.random_range(0..100);
            match choice {
                0..12 => self.kill(),
                12..16 => self.stop(),
                16..28 => self.freeze(),
                28..36 => self.rebalance(),
                36..42 => self.end_client(),
                42..50 => self.echo(),
                50..54 => self.hide(),
                54..62 if self.mode != Mode::Plain => self.change_topic(),
                _ => self.change_weather(),
            }
            if self.processes.len() < PROCESSES_MAX && self.world.lock().rng.random_ratio(1, 3) {
                self.start_process();
            }
        }
    }

    /// No more faults; somebody is there to do what is left. Only commits to Kafka fail for a while longer: nothing is written
    /// any more, so that no later one makes up for what is forgotten.
    pub fn heal(&mut self) {
        {
            let mut state = self.world.lock();
            state.heal();
            state.begin(Weather::CommitsFail, Duration::from_secs(10));
        }
        if self.processes.is_empty() {
            self.start_process();
        }
    }

    fn any_process(&mut self) -> Option<Process> {
        if self.processes.is_empty() {
            return None;
        }
        let index = self.world.lock().rng.random_range(0..self.processes.len());
        Some(self.processes.swap_remove(index))
    }

    fn kill(&mut self) {
        let Some(process) = self.any_process() else { return };
        let number = process.number;
        self.world.lock().fault(number, "is killed", [0; 3]);
        process.kill(&self.world);
        // The group hears of it by the silence.
        let world = self.world.clone();
        let silence = self.world.lock().while_ms(1_000);
        tokio::spawn(async move {
            sleep(silence).await;
            let mut state = world.lock();
            let State { group, rng, .. } = &mut *state;
            let dead: Vec<_> = group.seats.iter().filter(|(_, seat)| seat.process == number).map(|it| *it.0).collect();
            for seat in dead {
                group.leave(seat, rng);
            }
        });
    }

    fn stop(&mut self) {
        let Some(process) = self.any_process() else { return };
        self.world.lock().fault(process.number, "is stopped", [0; 3]);
        tokio::spawn(process.stop());
    }

    /// A process is frozen; if for long, the group puts it out.
    fn freeze(&mut self) {
        let Some(process) = self.processes.first() else { return };
        let number = process.number;
        // The next one is another.
        self.processes.rotate_left(1);
        let mut state = self.world.lock();
        let length = state.while_ms(3_000);
        state.fault(number, "is frozen", [i64::try_from(length.as_millis()).unwrap_or(0), 0, 0]);
        state.freeze(number, length);
        if length > Duration::from_millis(800) {
            let State { group, rng, .. } = &mut *state;
            let seats: Vec<_> = group.seats.iter().filter(|(_, seat)| seat.process == number).map(|it| *it.0).collect();
            for seat in seats {
                group.put_out(seat, rng);
            }
        }
    }

    fn rebalance(&mut self) {
        let mut state = self.world.lock();
        state.fault(0, "the group deals anew", [0; 3]);
        let State { group, rng, .. } = &mut *state;
        group.rebalance(rng);
    }

    fn end_client(&mut self) {
        let mut state = self.world.lock();
        let State { group, rng, .. } = &mut *state;
        let Some(seat) = group.seats.values_mut().choose(rng) else { return };
        seat.is_dying = true;
        let process = seat.process;
        state.fault(process, "the client dies", [0; 3]);
    }

    fn echo(&mut self) {
        let mut state = self.world.lock();
        state.fault(0, "records come again", [0; 3]);
        let State { group, topic, .. } = &mut *state;
        for seat in group.seats.values_mut() {
            for (partition, fetch) in &mut seat.fetches {
                fetch.echo(&topic.logs[usize::try_from(*partition).unwrap_or(0)]);
            }
        }
    }

    /// What comes next in a partition cannot be read for a while.
    fn hide(&mut self) {
        let mut state = self.world.lock();
        let partition = state.rng.random_range(0..PARTITIONS);
        let until = Instant::now() + state.while_ms(2_000);
        let log = &mut state.topic.logs[partition];
        let offset = log.end();
        log.unreadable = Some((offset, until));
        state.fault(0, "cannot be read", [i64::try_from(partition).unwrap_or(0), offset, 0]);
    }

    fn change_topic(&mut self) {
        let mut state = self.world.lock();
        if self.mode == Mode::Anew {
            state.fault(0, "the topic is made anew", [0; 3]);
            state.topic.make_anew();
            return;
        }
        let (partition, records) = Self::choose_cut(&mut state);
        state.topic.cut(partition, records);
        let end = state.topic.logs[partition].end();
        state.fault(0, "the log is cut", [i64::try_from(partition).unwrap_or(0), end, 0]);
        // It grows again at once, as far as it was, or further.
        let State { topic, rng, .. } = &mut *state;
        for _ in 0..records + rng.random_range(0..=2) {
            topic.write(partition, rng);
        }
    }

    /// Which partition is cut, and how many of its records are lost: often of those that are recorded.
    fn choose_cut(state: &mut State) -> (usize, usize) {
        let (partition, records) = (state.rng.random_range(0..PARTITIONS), state.rng.random_range(1..6));
        let number = i32::try_from(partition).unwrap_or(0);
        let (stored, _) = state.database.offset(&state.topic.name(), number);
        let behind = usize::try_from(state.topic.logs[partition].end() - stored).unwrap_or(0);
        if behind < 30 && state.rng.random_ratio(2, 3) { (partition, behind + records) } else { (partition, records) }
    }

    fn change_weather(&mut self) {
        let mut state = self.world.lock();
        let (weather, what) = match state.rng.random_range(0..18) {
            0..2 => (Weather::DatabaseAway, "the database is away"),
            2..5 => (Weather::DatabaseSlow, "the database is slow"),
            5..9 => (Weather::AnswersLost, "answers are lost"),
            9..11 => (Weather::DeadLettersAway, "the dead-letter topic is away"),
            11..13 => (Weather::DeadLettersRefused, "the dead-letter topic refuses"),
            13..15 => (Weather::BrokersSilent, "the brokers are silent"),
            15..16 => (Weather::CommitsSlow, "commits are slow"),
            _ => (Weather::CommitsFail, "commits fail"),
        };
        let length = state.while_ms(1_200);
        state.begin(weather, length);
        state.fault(0, what, [i64::try_from(length.as_millis()).unwrap_or(0), 0, 0]);
    }
}
