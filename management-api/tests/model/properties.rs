//! The ledger's rules, and the checker's view of the model.

use stateright::{Model, Property};

use crate::log::Record;
use crate::protocol::Protocol;
use crate::step::{Step, World};

/// Steps from any state to the end, once nothing fails any more; more means never.
const STEPS_MAX: usize = 200;

const ONCE: &str = "a purchase is recorded at most once";
const NO_GAP: &str = "an offset past a record says that it is recorded or a dead letter";
const TRUE: &str = "good records become rows, others dead letters";
const END: &str = "without more faults everything is recorded or a dead letter";

impl Model for Protocol {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.scope.faults)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        world.steps(self, steps);
        if world.faults_left > 0 {
            world.faults(self, steps);
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        next.take(step, self);
        next.sort();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONCE, recorded_once),
            Property::always(NO_GAP, nothing_skipped),
            Property::always(TRUE, rows_are_good),
            Property::always(END, leads_to_a_good_end),
            // That the checker gets where it is dangerous.
            Property::sometimes("all faults happen and all is recorded", |protocol: &Self, world: &World| {
                world.faults_left == 0 && is_good_end(protocol, world)
            }),
            Property::sometimes("two consumers record the same", |_, world: &World| {
                world.consumers.iter().all(|consumer| consumer.lane.first().is_some_and(|batch| batch.begun))
            }),
        ]
    }
}

/// Whether a property is one of the protocol's rules.
pub fn is_rule(name: &str) -> bool {
    [ONCE, NO_GAP, TRUE, END].contains(&name)
}

fn recorded_once(protocol: &Protocol, world: &World) -> bool {
    let rows = &world.database.rows;
    let same = |(_, record): &(_, Record)| {
        rows.iter().filter(|row| protocol.purchase(row.1) == protocol.purchase(*record)).count()
    };
    rows.iter().all(|row| same(row) == 1)
}

fn is_settled(protocol: &Protocol, world: &World, record: Record) -> bool {
    let dead_letters = world.dead_letters | world.database.kept;
    let dead_letter = dead_letters & (1 << record) != 0;
    dead_letter || (protocol.is_good(record) && world.database.has_row_of(record, protocol))
}

fn nothing_skipped(protocol: &Protocol, world: &World) -> bool {
    let reached = usize::from(world.database.reached(&world.log));
    world.log.records[..reached].iter().all(|(record, _)| is_settled(protocol, world, *record))
}

fn rows_are_good(protocol: &Protocol, world: &World) -> bool {
    let dead_letters = world.dead_letters | world.database.kept;
    let set_aside = |record: u8| dead_letters & (1 << record) != 0;
    let rows = world.database.rows.iter();
    rows.clone().all(|(_, record)| protocol.is_good(*record))
        && (0..8).all(|record| !set_aside(record) || !protocol.is_good(record))
}

fn is_good_end(protocol: &Protocol, world: &World) -> bool {
    world.is_quiet() && world.database.reached(&world.log) == world.log.end() && nothing_skipped(protocol, world)
}

/// Whether the end is reached when nothing more fails and everybody does what is due. Asked where nothing is under way,
/// because all else leads there: what is under way ends after a few steps.
fn leads_to_a_good_end(protocol: &Protocol, world: &World) -> bool {
    if !world.is_quiet() {
        return true;
    }
    let mut world = world.clone();
    let mut steps = Vec::new();
    for _ in 0..STEPS_MAX {
        steps.clear();
        world.steps(protocol, &mut steps);
        let Some(step) = steps.first() else { break };
        world.take(*step, protocol);
    }
    world.is_quiet() && steps.is_empty() && is_good_end(protocol, &world)
}
