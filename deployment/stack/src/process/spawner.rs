//! One thread that starts every child and lives as long as the program.
//!
//! The kernel's "die with your parent" means the *thread* that forked, and test threads and idle pool threads end long
//! before the program does. So children are forked by a thread that never ends.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, Command},
    sync::{LazyLock, mpsc},
    thread,
};

use serde::{Deserialize, Serialize};

use super::sys;

/// How long a child lives when nobody stops it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifetime {
    /// Killed when its handle is dropped, and when this program ends in any way, kill -9 included.
    WithParent,
    /// Goes on after this program ended; found again by its pid and start time.
    Detached,
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

static SPAWNER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
    let (orders, queue) = mpsc::channel::<Order>();
    thread::spawn(move || {
        for (mut command, answer) in queue {
            // An asker that went away drops the child's handle; the child then dies with the program.
            let _ = answer.send(command.spawn());
        }
    });
    orders
});

pub(super) fn spawn(mut command: Command, lifetime: Lifetime) -> io::Result<Child> {
    match lifetime {
        Lifetime::WithParent => {
            // A group of its own: Ctrl-C in a terminal is for the tests, and it is they who end their children.
            command.process_group(0);
            sys::die_with_the_spawning_thread(&mut command);
        }
        Lifetime::Detached => sys::leave_the_session(&mut command),
    }
    let (answer, child) = mpsc::channel();
    SPAWNER.send((command, answer)).map_err(io::Error::other)?;
    child.recv().map_err(io::Error::other)?
}
